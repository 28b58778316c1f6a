-- Digests of arguments that were given for end users: which ones cannot be told any more, and no erasure finds them.
-- They are a hint for suggestions alone, and come again. An executor of the release before still sends them: what it
-- sends after this is gone after 30 days.
DELETE FROM selector.repeat;
