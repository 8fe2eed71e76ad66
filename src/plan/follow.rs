//! Plans the continuation of a database that a standby holds already: from its TXID to the newest one that the
//! replica's files lead to (docs/FOLLOW.md, "Planning from a TXID").
//!
//! A file leads from TXID t to its max TXID if its min TXID is at most t + 1 and its max TXID is above t. Its level does
//! not matter: pages of transactions up to t are the same in it, or newer. Of all chains to the newest TXID the one with
//! the fewest bytes is taken, and each file counts [`FILE_COST_BYTES`] more, for its request.
//!
//! A plan never ends before the newest TXID that all files lead to, damaged ones included. A standby that was killed may
//! hold a newer state than it knows of, but none that was not listed. So what is planned never takes it back.

use super::Excluded;
use crate::catalogue::{LtxFile, Replica};
use crate::ltx::Txid;
use std::collections::BTreeMap;

/// The cost of a request as bytes: at 20 ms per request, 64 KiB come at 3 MB/s.
pub const FILE_COST_BYTES: u64 = 64 << 10;

/// What a replica has for a standby at a TXID. File numbers are indexes into [`Replica::files`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continuation {
    /// The replica's newest TXID is the standby's.
    UpToDate,
    /// The replica's newest TXID is older than the standby's. None: it has no files.
    Behind {
        /// The newest TXID of the replica.
        newest: Option<Txid>,
    },
    /// Files that lead to a newer state.
    Chain(NextFiles),
    /// The replica has newer TXIDs, but no file continues from the standby's.
    Hole {
        /// The lowest TXID that any newer file begins with.
        next: Txid,
        /// The newest TXID of the replica.
        newest: Txid,
    },
    /// The files that lead to `txid` are damaged or archived, and no others do.
    Blocked {
        /// The TXID that could be reached.
        txid: Txid,
        /// The keys of the first files that cannot be used, at most [`MAX_BLOCKED`].
        keys: Vec<String>,
    },
}

/// The most keys that [`Continuation::Blocked`] names.
pub const MAX_BLOCKED: usize = 3;

/// The files that lead from a standby's TXID to a newer one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextFiles {
    /// The files, oldest first, at least one.
    pub files: Vec<usize>,
    /// The TXID that they lead to.
    pub txid: Txid,
    /// The newest TXID of the replica. If it is above `txid`, there is a hole behind the chain.
    pub newest: Txid,
}

/// Plans the way from TXID `from` to the newest state that the files of `replica` lead to. Files in `excluded` and
/// archived ones are avoided, but never change the TXID that is reached. Takes O(n log n) steps for n files.
pub fn continue_from(replica: &Replica, from: Txid, excluded: &Excluded) -> Continuation {
    let Some(newest) = replica.max_txid() else { return Continuation::Behind { newest: None } };
    if newest <= from {
        let behind = Continuation::Behind { newest: Some(newest) };
        return if newest == from { Continuation::UpToDate } else { behind };
    }
    let order = newer(replica, from);
    let goal = Chains::of(replica, &order, from, |_| true).reached();
    if goal == from {
        let next = order.iter().filter_map(|&i| replica.files.get(i)).map(|file| file.min_txid).min();
        return Continuation::Hole { next: next.unwrap_or(newest), newest };
    }
    let is_blocked = |i: usize| excluded.contains(i) || replica.files.get(i).is_some_and(|file| file.archived);
    let chains = Chains::of(replica, &order, from, |i| !is_blocked(i));
    if chains.reached() != goal {
        let blocked = order.iter().filter(|&&i| is_blocked(i)).filter_map(|&i| replica.files.get(i));
        let keys = blocked.take(MAX_BLOCKED).map(|file| replica.key(file)).collect();
        return Continuation::Blocked { txid: goal, keys };
    }
    Continuation::Chain(NextFiles { files: chains.files(), txid: goal, newest })
}

/// The files that end after `from`, by their max TXID.
fn newer(replica: &Replica, from: Txid) -> Vec<usize> {
    let max = |i: &usize| replica.files.get(*i).map(|file| file.max_txid);
    let mut order: Vec<usize> = (0..replica.files.len()).filter(|i| max(i) > Some(from)).collect();
    order.sort_by_key(max);
    order
}

/// The cheapest chain to each TXID that can be reached.
struct Chains {
    /// The TXIDs that are reached, ascending. The first is the standby's.
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    txid: Txid,
    cost: u64,
    /// The last file of the cheapest chain, and the place in `nodes` that it begins from. None for the first node.
    via: Option<(usize, usize)>,
}

impl Chains {
    /// The chains of those files in `order` that are `usable`. Every file leads upwards, so one pass over the files by
    /// their max TXID is enough.
    fn of(replica: &Replica, order: &[usize], from: Txid, usable: impl Fn(usize) -> bool) -> Self {
        let mut nodes = vec![Node { txid: from, cost: 0, via: None }];
        // The places in `nodes` from which a file may begin cheapest. TXIDs and costs ascend: a node that is older and
        // not cheaper than another one is never the best beginning.
        let mut best: Vec<usize> = vec![0];
        let mut ends: BTreeMap<Txid, Vec<(usize, &LtxFile)>> = BTreeMap::new();
        for &i in order.iter().filter(|&&i| usable(i)) {
            if let Some(file) = replica.files.get(i) {
                ends.entry(file.max_txid).or_default().push((i, file));
            }
        }
        for (txid, files) in ends {
            let node = |place: &usize| nodes.get(*place).copied();
            let cheapest = files.into_iter().filter_map(|(i, file)| {
                let first = Txid(file.min_txid.0.saturating_sub(1));
                let at = best.partition_point(|place| node(place).is_some_and(|node| node.txid < first));
                let place = *best.get(at)?;
                let cost = node(&place)?.cost.saturating_add(file.size).saturating_add(FILE_COST_BYTES);
                Some(Node { txid, cost, via: Some((i, place)) })
            });
            let Some(cheapest) = cheapest.min_by_key(|node| node.cost) else { continue };
            while best.last().and_then(node).is_some_and(|last| last.cost >= cheapest.cost) {
                best.pop();
            }
            best.push(nodes.len());
            nodes.push(cheapest);
        }
        Self { nodes }
    }

    fn reached(&self) -> Txid {
        self.nodes.last().map(|node| node.txid).unwrap_or_default()
    }

    /// The files of the cheapest chain to the newest TXID, oldest first.
    fn files(&self) -> Vec<usize> {
        let mut files = Vec::new();
        let mut at = self.nodes.last();
        // Ends: `via` names an earlier node.
        while let Some((file, before)) = at.and_then(|node| node.via) {
            files.push(file);
            at = self.nodes.get(before);
        }
        files.reverse();
        files
    }
}
