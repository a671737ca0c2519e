-- What the clock showed when something was last ended by it: a start with a clock far from it ends nothing at first. One
-- row, of the operator.
CREATE TABLE clock_mark (
    account_id   UUID NOT NULL PRIMARY KEY,
    believed_at  BIGINT NOT NULL
);
