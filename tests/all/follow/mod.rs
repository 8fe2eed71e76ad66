//! Warm standbys: `hydrant restore -f` with a generated primary, whose files are put into the simulator one by one
//! (docs/FOLLOW.md).

mod crash;
mod damage;
mod disk_full;
mod end_to_end;
mod fleet;
mod gaps;
mod litestream;
mod metrics;
mod other_user;
mod power_loss;
mod promote;
mod promote_fleet;
mod refused;
mod requests;
mod support;
