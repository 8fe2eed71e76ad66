//! Tests of `hydrant restore` and `hydrant ltx` as a user runs them. The program has an empty environment and reads
//! from folders, an independent S3 server and the simulator. The tests check exit codes, texts, JSON, and every
//! byte in the directory of the output.

mod append_only;
mod faults;
mod intact;
mod intact_fleet;
mod intact_v3;
mod interrupted;
mod limits;
mod lineages;
mod places;
mod refusals;
mod secrets;
mod services;
mod signals;
mod sources;
mod space;
mod support;
mod threads;
mod times;
mod tries;
mod vacuum;
mod verbose;
mod warned;
mod ways;
mod wire;
