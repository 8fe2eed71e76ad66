//! Writers: io_uring and pwrite behind one trait, aligned buffers, and the probe that chooses.
