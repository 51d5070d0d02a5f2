//! A schedule as a short string that survives edits elsewhere in the program.
//!
//! Stored are only the turns: where another thread went on than the one that would have by itself (see
//! [`crate::trace::lead`]). A turn names the thread that was passed over, the label of the operation before which it
//! stood, and the how-manieth time it was there; no instruction, no line, no count of steps. The text of a turn is
//! `T0@label#2>T1`, with `/3` behind it for the fourth way of a choice. Accesses that were steps of the run and that no
//! turn names follow behind a `+`, since a replay has to stop before them too.

use std::collections::HashMap;

use crate::operation::{Effect, ThreadId};
use crate::trace::{Label, Pick, Trace};

/// The names of labels.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    names: Vec<String>,
    by_name: HashMap<String, Label>,
}

impl Labels {
    /// The label of a name; the same name has the same label.
    pub fn intern(&mut self, name: &str) -> Label {
        if let Some(label) = self.by_name.get(name) {
            return *label;
        }
        let label = Label(self.names.len() as u32);
        self.names.push(name.to_owned());
        self.by_name.insert(name.to_owned(), label);
        label
    }

    /// Is there a label of this name?
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The name of a label.
    #[must_use]
    pub fn name(&self, label: Label) -> &str {
        self.names.get(label.0 as usize).map_or("?", String::as_str)
    }
}

/// One place where the choice was not the obvious one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Turn {
    /// Who would have gone on.
    pub thread: ThreadId,
    /// Before what it stood.
    pub label: Label,
    /// For the how-manieth time, from 1.
    pub nth: u32,
    /// Who went on instead.
    pub to: Pick,
}

/// The choices of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// In the order of the run.
    pub turns: Vec<Turn>,
    /// Accesses that are steps besides those that the turns name, each once.
    pub steps: Vec<Label>,
}

const VERSION: &str = "1:";

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSchedule(pub String);

impl std::fmt::Display for NoSchedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a schedule: {}", self.0)
    }
}

impl std::error::Error for NoSchedule {}

impl Schedule {
    /// The schedule that leads to a trace.
    #[must_use]
    pub fn of(trace: &Trace) -> Self {
        let mut turns = Vec::new();
        for (idx, step) in trace.steps.iter().enumerate() {
            let branch = if let Effect::Branch(branch) = step.event.effect { branch } else { 0 };
            let to = Pick { thread: step.event.thread, branch };
            let (thread, label) = step.lead;
            if to != Pick::of(thread) {
                turns.push(Turn { thread, label, nth: 1 + visits(trace, idx, thread, label), to });
            }
        }
        let mut steps = Vec::new();
        for step in trace.steps.iter().filter(|step| step.event.operation.is_access()) {
            if !steps.contains(&step.label) && !turns.iter().any(|turn: &Turn| turn.label == step.label) {
                steps.push(step.label);
            }
        }
        Self { turns, steps }
    }

    /// The text. It has no spaces.
    #[must_use]
    pub fn print(&self, labels: &Labels) -> String {
        let turns = self.turns.iter().map(|turn| {
            let mut text = format!("{}@{}", turn.thread, escape(labels.name(turn.label)));
            if turn.nth > 1 {
                text.push_str(&format!("#{}", turn.nth));
            }
            text.push_str(&format!(">{}", turn.to.thread));
            if turn.to.branch > 0 {
                text.push_str(&format!("/{}", turn.to.branch));
            }
            text
        });
        let turns: Vec<String> = turns.collect();
        let mut text = format!("{VERSION}{}", turns.join(";"));
        for (idx, step) in self.steps.iter().enumerate() {
            text.push(if idx == 0 { '+' } else { ';' });
            text.push_str(&escape(labels.name(*step)));
        }
        text
    }

    /// Reads a text. A label that the program no longer has is no error here: the replay tells where it is missed.
    ///
    /// # Errors
    /// If the text was not printed by [`Schedule::print`].
    pub fn parse(text: &str, labels: &mut Labels) -> Result<Self, NoSchedule> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix(VERSION) else {
            return Err(NoSchedule(format!("it does not begin with `{VERSION}`")));
        };
        let (rest, steps) = rest.split_once('+').unwrap_or((rest, ""));
        let steps = steps.split(';').filter(|step| !step.is_empty());
        let steps: Option<Vec<Label>> = steps.map(|step| Some(labels.intern(&unescape(step)?))).collect();
        let steps = steps.ok_or_else(|| NoSchedule("a name behind the `+` is none".to_owned()))?;
        let turns = rest.split(';').filter(|turn| !turn.is_empty());
        let turns: Result<Vec<Turn>, NoSchedule> = turns
            .map(|turn| parse_turn(turn, labels).ok_or_else(|| NoSchedule(format!("`{turn}` is no turn"))))
            .collect();
        Ok(Self { turns: turns?, steps })
    }
}

/// How often a thread had been at a label before step `n`.
pub(crate) fn visits(trace: &Trace, n: usize, thread: ThreadId, label: Label) -> u32 {
    let earlier = trace.steps[..n].iter();
    earlier.filter(|step| step.event.thread == thread && step.label == label).count() as u32
}

fn parse_turn(text: &str, labels: &mut Labels) -> Option<Turn> {
    let (from, to) = text.split_once('>')?;
    let (thread, place) = from.split_once('@')?;
    let (label, nth) = match place.split_once('#') {
        Some((label, nth)) => (label, nth.parse().ok()?),
        None => (place, 1),
    };
    let (to, branch) = match to.split_once('/') {
        Some((to, branch)) => (to, branch.parse().ok()?),
        None => (to, 0),
    };
    let label = labels.intern(&unescape(label)?);
    Some(Turn { thread: parse_thread(thread)?, label, nth, to: Pick { thread: parse_thread(to)?, branch } })
}

fn parse_thread(text: &str) -> Option<ThreadId> {
    let number: u32 = text.strip_prefix('T')?.parse().ok()?;
    ((number as usize) < crate::operation::THREADS_MAX).then_some(ThreadId(number))
}

fn escape(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        let is_plain = !c.is_whitespace() && !c.is_control() && !";#>%/@+".contains(c);
        if is_plain {
            text.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                text.push_str(&format!("%{byte:02x}"));
            }
        }
    }
    text
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let code = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_as_they_are_written() {
        let mut labels = Labels::default();
        let label = labels.intern("a b.py:f>g; 100%");
        let other = labels.intern("größe");
        let turn =
            |label, nth, branch| Turn { thread: ThreadId(0), label, nth, to: Pick { thread: ThreadId(12), branch } };
        let more = labels.intern("n+1");
        let turns = vec![turn(label, 1, 0), turn(other, 3, 2)];
        let schedule = Schedule { turns, steps: vec![more, label] };
        let text = schedule.print(&labels);
        assert_eq!(text, "1:T0@a%20b.py:f%3eg%3b%20100%25>T12;T0@größe#3>T12/2+n%2b1;a%20b.py:f%3eg%3b%20100%25");
        assert_eq!(Schedule::parse(&text, &mut labels), Ok(schedule));
        for wrong in ["", "2:", "1:T0>T1", "1:T0@x>U1", "1:T0@%zz>T1", "1:T0@x>T999", "1:+%zz"] {
            assert!(Schedule::parse(wrong, &mut labels).is_err(), "{wrong}");
        }
    }
}
