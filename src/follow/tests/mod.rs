mod lock;
mod standby;
