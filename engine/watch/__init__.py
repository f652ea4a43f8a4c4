"""The watcher: a process that knows, without looking, whether a record's files changed."""
