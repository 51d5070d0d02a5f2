//! The words that both sides of raceproof speak, and nothing else: no IO, no clock, no serialisation.
//!
//! # Glossary
//! One word for one thing, in code, on the command line and in the pages:
//!
//! | word | what it is |
//! |---|---|
//! | *place* | a piece of state that threads can share: a global, an attribute of a class, an item of a container |
//! | *action* | what a thread does to a place or a lock: read, write, update, acquire, release, spawn, await |
//! | *access* | an action on a place, by a thread, with the locks held |
//! | *lock set* | the locks held at an access; two accesses are kept apart if a lock is in both |
//! | *entry point* | where a thread, a task or an outside caller enters the program |
//! | *conflict* | two accesses that nothing keeps apart, at least one of which writes |
//! | *rule* | what is forbidden; named after it |
//! | *finding* | one breach of a rule, with its place, spans, confidence, evidence and perhaps a fix |
//! | *confidence* | how sure the finding is; *severity* says how bad it would be |
//! | *evidence* | why we believe a finding: the call paths, the locks, a bad order |
//! | *scenario* | a state, the threads that share it, and what must hold at the end |
//! | *run* | one execution of a scenario under control |
//! | *operation* | what a thread is about to do; *event*: what it did, and what came of it |
//! | *step* | one choice among the threads that can go on, and the event that followed |
//! | *trace* | all steps of a run in order; two runs are equal if only independent steps are swapped |
//! | *strategy* | decides who goes next, and which run comes next |
//! | *schedule* | the choices of a run as a short text that gives the same run again |
//! | *preemption* | another thread goes on although the one that ran could have |
//! | *verdict* | failed, proved, nothing found, gave up; a *certificate* says how far it reaches |
//! | *fingerprint* | the identity of a finding that survives edits elsewhere in the file |
//! | *runtime* | `gil`, `free-threaded` or `codon`: what the built-ins promise |

pub mod action;
pub mod conflict;
pub mod cycle;
pub mod finding;
pub mod promises;
pub mod rule;
pub mod span;

pub use action::{Access, Action, Lock, LockKind, LockMode, LockSet, PlaceId, Thread};
pub use conflict::Conflict;
pub use finding::{
    CallStep, Confidence, Edit, Evidence, Finding, Fingerprint, Fix, GuardVote, ObservedStep, Path, Related, Safety,
};
pub use promises::Runtime;
pub use rule::{RuleInfo, Severity};
pub use span::{FileId, Files, Position, SourceFile, Span};
