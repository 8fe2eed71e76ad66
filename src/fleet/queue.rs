//! What is restored before what: as the operator says, then the longest first, so that no giant
//! is left for the end (DESIGN engine 6). While a bucket throttles, no prefix of keys has more than
//! its share of those at work as long as others wait: S3 throttles prefixes, and restores that wait
//! for one would hold back those that do not.

use crate::catalogue::Replica;
use crate::config::Env;
use crate::fleet::discovery::discover::{FleetSource, Found, Output};
use crate::fleet::discovery::pattern::{Pattern, PatternError};
use crate::fleet::job::{Job, Known};
use crate::ltx::Level;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

/// Bytes that restoring the newest state will fetch, about: the newest snapshot, and of what
/// follows it the level that holds most.
pub fn estimated_bytes(replica: &Replica) -> u64 {
    let Some(snapshot) = replica.files.iter().filter(|file| file.is_snapshot()).max_by_key(|file| file.max_txid) else {
        return 0;
    };
    let following = |level: Level| -> u64 {
        let files = replica.files.get(replica.level(level)).unwrap_or_default();
        files.iter().filter(|file| file.min_txid > snapshot.max_txid).map(|file| file.size).sum()
    };
    snapshot.size + (0..=9).filter_map(Level::new).map(following).max().unwrap_or(0)
}

/// The globs of `--first`, over the databases' names or their paths below the output directory.
#[derive(Debug)]
pub struct First(Vec<[Pattern; 2]>);

impl First {
    /// # Errors
    /// A glob that is none.
    pub fn new(globs: &[String], source: &FleetSource, env: &Env<'_>) -> Result<Self, PatternError> {
        let pattern = |glob: &String| {
            let relative = Pattern::for_keys(glob)?;
            let name = match source {
                FleetSource::Url(_) => relative.clone(),
                FleetSource::Config(_) => Pattern::for_paths(glob, env)?,
            };
            Ok([name, relative])
        };
        globs.iter().map(pattern).collect::<Result<_, _>>().map(Self)
    }

    /// How many globs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which glob's turn the database has; those of none come last.
    pub fn turn_of(&self, found: &Found) -> usize {
        let relative = match &found.output {
            Output::Configured(_) => None,
            Output::InDir { relative, .. } | Output::Relative(relative) => Some(relative.as_str()),
        };
        let matches = |[by_name, by_relative]: &[Pattern; 2]| {
            by_name.matches(&found.name) || relative.is_some_and(|relative| by_relative.matches(relative))
        };
        self.0.iter().position(matches).unwrap_or(self.0.len())
    }
}

/// Jobs that wait for their turn.
#[derive(Debug, Default)]
pub struct JobQueue {
    /// To be tried again: before all others.
    again: VecDeque<Job>,
    waiting: BinaryHeap<Waiting>,
    /// Passed over, in order, by prefix: all of one turn.
    passed: HashMap<Box<str>, VecDeque<Job>>,
    /// How many are at work, by prefix.
    at_work: HashMap<Box<str>, usize>,
}

/// The greatest is the next.
#[derive(Debug)]
struct Waiting(Job);

impl JobQueue {
    pub fn add(&mut self, jobs: Vec<Job>) {
        self.waiting.extend(jobs.into_iter().map(Waiting));
    }

    pub fn add_again(&mut self, job: Job) {
        self.again.push_back(job);
    }

    /// `share`: how many of one prefix may be at work while others wait; None: as many as come.
    pub fn next(&mut self, share: Option<usize>) -> Option<Job> {
        if let Some(job) = self.again.pop_front() {
            return Some(job);
        }
        let share = share.unwrap_or(usize::MAX);
        let turn_of_passed = |queue: &Self| queue.passed.values().next()?.front().map(|job| job.turn);
        let waiting = self.waiting.peek().map(|next| next.0.turn);
        if waiting.is_some_and(|turn| turn_of_passed(self).is_some_and(|passed| turn < passed)) {
            // Found since: they come first.
            let passed = self.passed.drain().flat_map(|(_, jobs)| jobs);
            self.waiting.extend(passed.map(Waiting));
        }
        if let Some(job) = self.passed_below(share) {
            return Some(job);
        }
        let turn = turn_of_passed(self).or(waiting);
        while self.waiting.peek().is_some_and(|next| Some(next.0.turn) == turn)
            && let Some(Waiting(job)) = self.waiting.pop()
        {
            if self.count(prefix_of(&job)) < share {
                return Some(job);
            }
            self.passed.entry(prefix_of(&job).into()).or_default().push_back(job);
        }
        self.passed_below(usize::MAX)
    }

    /// A job is at work.
    pub fn started(&mut self, job: &Job) {
        *self.at_work.entry(prefix_of(job).into()).or_default() += 1;
    }

    /// …and no longer.
    pub fn stopped(&mut self, job: &Job) {
        if let Some(count) = self.at_work.get_mut(prefix_of(job)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.at_work.remove(prefix_of(job));
            }
        }
    }

    pub fn len(&self) -> usize {
        self.again.len() + self.waiting.len() + self.passed.values().map(VecDeque::len).sum::<usize>()
    }

    pub fn clear(&mut self) {
        self.again.clear();
        self.waiting.clear();
        self.passed.clear();
    }

    fn count(&self, prefix: &str) -> usize {
        self.at_work.get(prefix).copied().unwrap_or(0)
    }

    /// The next of the prefix that has the fewest at work, if those are fewer than `share`.
    fn passed_below(&mut self, share: usize) -> Option<Job> {
        let counts = self.passed.keys().map(|prefix| (self.count(prefix), prefix));
        let (_, prefix) = counts.filter(|(count, _)| *count < share).min()?;
        let prefix = prefix.clone();
        let jobs = self.passed.get_mut(&prefix)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.passed.remove(&prefix);
        }
        job
    }

    /// What is known of these databases' files is void. Those that wait here are listed when
    /// their turn comes; the others are given back.
    pub fn forget_listings(&mut self, mut doubtful: Vec<Found>) -> Vec<Found> {
        let paths: HashSet<String> = doubtful.iter().map(|found| found.path.clone()).collect();
        let mut waiting: HashSet<&str> = self.again.iter().map(|job| job.path.as_str()).collect();
        let mut jobs = std::mem::take(&mut self.waiting).into_vec();
        jobs.extend(self.passed.drain().flat_map(|(_, jobs)| jobs).map(Waiting));
        for Waiting(job) in jobs.iter_mut().filter(|Waiting(job)| paths.contains(&job.path)) {
            job.listing = Known::Unknown;
            waiting.insert(&job.path);
        }
        doubtful.retain(|found| !waiting.contains(found.path.as_str()));
        self.waiting = jobs.into();
        doubtful
    }
}

/// What a bucket may throttle by itself: the bucket and the first two folders, as the limiter
/// takes them (`store::s3::limiter`).
fn prefix_of(job: &Job) -> &str {
    let end = job.id.match_indices('/').nth(2).map_or(job.id.len(), |(at, _)| at);
    job.id.get(..end).unwrap_or("")
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        let (Self(a), Self(b)) = (self, other);
        b.turn.cmp(&a.turn).then(a.estimated_bytes.cmp(&b.estimated_bytes)).then_with(|| b.name.cmp(&a.name))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

#[cfg(test)]
mod tests {
    use crate::catalogue::{Layout, LtxFile};
    use crate::fleet::queue::*;
    use crate::ltx::Txid;
    use crate::timestamp::Timestamp;

    #[test]
    fn the_newest_snapshot_and_what_follows_it() {
        let file = |level, min, max, size| LtxFile {
            min_txid: Txid(min),
            max_txid: Txid(max),
            size,
            last_modified: Timestamp::from_millis(0),
            etag: None,
            level: Level::new(level).unwrap(),
            layout: Layout::Hex,
            archived: false,
        };
        let files = vec![
            file(0, 6, 6, 10),
            file(0, 7, 7, 10),
            file(0, 8, 8, 10),
            file(1, 4, 5, 1000),
            file(1, 6, 7, 25),
            file(9, 1, 3, 5000),
            file(9, 1, 5, 500),
        ];
        let replica = Replica { root: "a/".into(), files, v3: None, others: Vec::new() };
        assert_eq!(estimated_bytes(&replica), 530);
        assert_eq!(estimated_bytes(&Replica { root: "a/".into(), files: vec![], v3: None, others: Vec::new() }), 0);
    }

    /// Databases `<prefix>/<number>` of one size, `count` under each prefix.
    fn jobs(prefixes: &[&str], count: usize, first: &First) -> Vec<Job> {
        use crate::fleet::job::{Admission, Places};
        let store = crate::store::Store::File(crate::store::file::FileStore);
        let places = Places { output_dir: std::path::Path::new("/o").into(), reserved: Vec::new(), folds: |_| false };
        let names = prefixes.iter().flat_map(|prefix| (0..count).map(move |i| format!("{prefix}/{i:03}")));
        let found = names.map(|name| Found {
            id: format!("bucket/{name}"),
            store: store.clone(),
            path: name.clone(),
            replica: Some(Replica { root: format!("{name}/"), files: vec![], v3: None, others: Vec::new() }),
            output: Output::Relative(name.clone()),
            name,
        });
        Admission::new(places, first).some(found.collect()).jobs
    }

    fn next(queue: &mut JobQueue, share: Option<usize>) -> Option<Job> {
        let job = queue.next(share)?;
        queue.started(&job);
        Some(job)
    }

    #[test]
    fn no_prefix_has_more_than_its_share_while_others_wait() {
        let mut queue = JobQueue::default();
        queue.add(jobs(&["t/a", "t/b", "t/c"], 10, &First(Vec::new())));
        // By name, while nothing throttles.
        assert_eq!(next(&mut queue, None).map(|job| job.name).as_deref(), Some("t/a/000"));
        let mut at_work: Vec<Job> = (0..5).filter_map(|_| next(&mut queue, Some(2))).collect();
        let names: Vec<&str> = at_work.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names, ["t/a/001", "t/b/000", "t/b/001", "t/c/000", "t/c/001"]);
        // A place becomes free: it is the next one's of the same prefix.
        let ended = at_work.remove(2);
        queue.stopped(&ended);
        assert_eq!(next(&mut queue, Some(2)).map(|job| job.name).as_deref(), Some("t/b/002"));
        // Nobody else waits: all there is, each once.
        assert_eq!(queue.len(), 23);
        let rest: HashSet<String> = std::iter::from_fn(|| next(&mut queue, Some(2))).map(|job| job.name).collect();
        assert_eq!((rest.len(), queue.len()), (23, 0));
    }

    /// Whatever the shares, what `--first` names is begun before all else that is known.
    #[test]
    fn no_share_brings_a_later_turn_before_an_earlier() {
        let glob = Pattern::for_keys("t/b/*").unwrap();
        let first = First(vec![[glob.clone(), glob]]);
        let mut queue = JobQueue::default();
        queue.add(jobs(&["t/a", "t/c"], 10, &first));
        // Those of t/a are passed over for t/c's.
        let begun: Vec<Job> = (0..3).filter_map(|_| next(&mut queue, Some(1))).collect();
        assert_eq!(begun.len(), 3);
        queue.stopped(&begun[0]);
        queue.add(jobs(&["t/b"], 10, &first));
        let names: Vec<String> = std::iter::from_fn(|| next(&mut queue, Some(1))).map(|job| job.name).collect();
        let named = |names: &[String]| names.iter().filter(|name| name.starts_with("t/b/")).count();
        assert_eq!((named(&names[..10]), names.len()), (10, 27), "{names:?}");
    }
}
