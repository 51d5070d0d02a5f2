//! Vector clocks: for each slot of a thread, how far one has heard of it.

/// See the module. A slot that is not in it was not heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VectorClock(Vec<u32>);

impl VectorClock {
    /// How far the slot was heard of.
    #[must_use]
    pub fn get(&self, slot: u32) -> u32 {
        self.0.get(slot as usize).copied().unwrap_or(0)
    }

    /// Has what happened at that time of the slot been heard of?
    #[inline]
    #[must_use]
    pub fn covers(&self, slot: u32, time: u32) -> bool {
        time <= self.get(slot)
    }

    /// The time of a slot.
    pub fn set(&mut self, slot: u32, time: u32) {
        let slot = slot as usize;
        if self.0.len() <= slot {
            self.0.resize(slot + 1, 0);
        }
        self.0[slot] = time;
    }

    /// Hears all that the other has heard.
    pub fn join(&mut self, other: &VectorClock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Becomes the other, in the same memory.
    pub fn copy_from(&mut self, other: &VectorClock) {
        self.0.clone_from(&other.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_hears_both() {
        let (mut one, mut two) = (VectorClock::default(), VectorClock::default());
        one.set(0, 3);
        two.set(2, 1);
        one.join(&two);
        assert!(one.covers(0, 3) && one.covers(2, 1) && !one.covers(1, 1));
        assert_eq!(two.get(0), 0);
    }
}
