//! Unpublished file → verify → fsync → publication that cannot replace → directory fsync.
