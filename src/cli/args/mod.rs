pub mod argv;
mod examples;
pub mod flags;
pub mod help;
pub mod memory;
pub mod resolve;
pub mod resolved;
pub mod values;
