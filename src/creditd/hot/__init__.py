"""The hot store: Redis or Valkey, where decisions are made. A cache: losing all of it loses nothing."""
