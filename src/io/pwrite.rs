//! Writes by pwrite.
