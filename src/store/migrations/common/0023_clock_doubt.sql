-- Of a clock that is doubted: what it showed last, and how long it has gone evenly. Both or neither.
ALTER TABLE clock_mark ADD COLUMN doubted_at BIGINT;
ALTER TABLE clock_mark ADD COLUMN even_millis BIGINT;
