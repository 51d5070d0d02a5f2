//! Strongly connected parts of a directed graph (Tarjan, SIAM J. Comput. 1972), without recursion.

/// The strongly connected parts of the graph `0..n`, callees before callers: if an edge leads from part A to part
/// B, B comes first. `successors(node)` gives the nodes that `node` points to; each part lists its nodes ascending.
pub fn components<'a>(n: usize, successors: impl Fn(usize) -> &'a [u32]) -> Vec<Vec<u32>> {
    const UNSEEN: u32 = u32::MAX;
    let mut index = vec![UNSEEN; n];
    let mut low = vec![0u32; n];
    let mut on_stack = vec![false; n];
    let mut stack: Vec<u32> = Vec::new();
    let mut parts = Vec::new();
    let mut next = 0u32;
    for root in 0..n {
        if index[root] != UNSEEN {
            continue;
        }
        let mut work: Vec<(usize, usize)> = vec![(root, 0)];
        while let Some(&mut (node, ref mut edge)) = work.last_mut() {
            if *edge == 0 && index[node] == UNSEEN {
                index[node] = next;
                low[node] = next;
                next += 1;
                stack.push(as_u32(node));
                on_stack[node] = true;
            }
            let targets = successors(node);
            if let Some(&target) = targets.get(*edge) {
                *edge += 1;
                let target = target as usize;
                if index[target] == UNSEEN {
                    work.push((target, 0));
                } else if on_stack[target] {
                    low[node] = low[node].min(index[target]);
                }
                continue;
            }
            work.pop();
            if let Some(&(parent, _)) = work.last() {
                low[parent] = low[parent].min(low[node]);
            }
            if low[node] == index[node] {
                parts.push(pop_part(&mut stack, &mut on_stack, as_u32(node)));
            }
        }
    }
    parts
}

fn pop_part(stack: &mut Vec<u32>, on_stack: &mut [bool], root: u32) -> Vec<u32> {
    let mut part = Vec::new();
    while let Some(node) = stack.pop() {
        on_stack[node as usize] = false;
        part.push(node);
        if node == root {
            break;
        }
    }
    part.sort_unstable();
    part
}

fn as_u32(node: usize) -> u32 {
    u32::try_from(node).expect("fewer than 2^32 nodes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_callees_first() {
        // 0 -> 1 <-> 2 -> 3, and 4 alone
        let edges: [&[u32]; 5] = [&[1], &[2], &[1, 3], &[], &[]];
        let parts = components(5, |node| edges[node]);
        assert_eq!(parts, vec![vec![3], vec![1, 2], vec![0], vec![4]]);
    }

    #[test]
    fn a_long_chain_does_not_exhaust_the_stack() {
        let n = 300_000;
        let edges: Vec<Vec<u32>> = (0..n).map(|i| if i + 1 < n { vec![i + 1] } else { vec![] }).collect();
        assert_eq!(components(n as usize, |node| &edges[node]).len(), n as usize);
    }
}
