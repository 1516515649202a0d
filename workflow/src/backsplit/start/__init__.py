"""From a folder that somebody else laid out to a case table and a configuration."""
