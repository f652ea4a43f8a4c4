"""The client of remote caches: results of others looked up and fetched, one's own given to them."""
