//! `hydrant restore` and `hydrant ltx` as a user meets them: the real binary with nothing in its
//! environment, against folders, an independent S3 server and the simulator. Asserted are exit
//! codes, texts, JSON, and what lies in the output's directory afterwards, byte for byte.

mod faults;
mod interrupted;
mod limits;
mod lineages;
mod places;
mod refusals;
mod secrets;
mod services;
mod signals;
mod sources;
mod support;
mod threads;
mod times;
mod ways;
