mod changes_applied;
mod holders;
