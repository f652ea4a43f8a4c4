"""What is kept: digests, objects, blobs, the index, the action cache."""
