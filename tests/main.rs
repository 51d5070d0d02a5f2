//! What holds for the whole: pages, programs, the command line, and the shape of the source itself.

mod architecture;
mod cli;
mod corpus;
mod document;
mod examples;
mod page;
mod rules;
mod tree;
