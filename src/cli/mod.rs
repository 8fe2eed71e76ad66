//! Flags as typed → resolved arguments; help; messages; exit codes (CONTRACT).
