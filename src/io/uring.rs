//! Writes by io_uring.
