//! Runs work on one worker per CPU core, for floors. A floor is the least time that a task can take on this
//! machine.

use futures_util::future::LocalBoxFuture;
use hydrant::cancel::CancellationToken;
use hydrant::restore::{SEGMENT_BYTES, Worker, Workers, WorkersOptions};
use hydrant::telemetry::Counters;
use std::rc::Rc;
use std::sync::Arc;

/// Runs `work` on one worker per core, and waits for all. Each worker has a pool of its own, because in a shared
/// pool one worker could take all the work.
pub(crate) fn on_each_core(work: impl Fn(Rc<Worker>) -> LocalBoxFuture<'static, ()> + Clone + Send + 'static) {
    on_cores(super::cores(), work);
}

/// Runs `work` on `count` workers, and waits for all.
pub(crate) fn on_cores(
    count: usize,
    work: impl Fn(Rc<Worker>) -> LocalBoxFuture<'static, ()> + Clone + Send + 'static,
) {
    let kind = hydrant::io::probe(hydrant::io::BackendChoice::Auto).expect("an engine").kind;
    let options = WorkersOptions {
        workers: 1,
        kind,
        memory_bytes: 256 << 20,
        tasks: 1,
        segment_bytes: SEGMENT_BYTES,
        checks: false,
        catalogue: Default::default(),
    };
    let start =
        |_| Workers::start(&options, Arc::new(Counters::default()), CancellationToken::new()).expect("a worker");
    let engines: Vec<_> = (0..count).map(start).collect();
    let ended: Vec<_> = engines.iter().map(|engine| engine.submit(work.clone())).collect();
    ended.into_iter().for_each(|worker| worker.blocking_recv().expect("a worker's end"));
}
