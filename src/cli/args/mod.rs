pub mod argv;
pub mod flags;
pub mod help;
pub mod memory;
pub mod resolve;
pub mod resolved;
pub mod values;
