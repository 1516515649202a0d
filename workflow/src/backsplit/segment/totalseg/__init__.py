"""TotalSegmentator's tasks, offline, with resident networks."""
