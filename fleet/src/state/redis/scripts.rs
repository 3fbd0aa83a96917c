//! What must be done at once runs in the server, as scripts.

use std::sync::LazyLock;

use redis::Script;

/// Appends to a stream unless it is full. KEYS: stream. ARGV: entries at most, seconds to live, field, report.
/// Returns 0 if it is full.
pub(super) static APPEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
         redis.call('XADD', KEYS[1], '*', ARGV[3], ARGV[4])
         redis.call('EXPIRE', KEYS[1], ARGV[2])
         return 1",
    )
});

/// Notes a start. KEYS: hash of starts. ARGV: task and round, worker, seconds to live, workers at most.
/// Returns who started it before, separated by blanks.
pub(super) static NOTE_START: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local others, all = {}, {ARGV[2]}
         for worker in string.gmatch(redis.call('HGET', KEYS[1], ARGV[1]) or '', '%S+') do
           if worker ~= ARGV[2] and #others < tonumber(ARGV[4]) then
             others[#others + 1] = worker
             all[#all + 1] = worker
           end
         end
         redis.call('HSET', KEYS[1], ARGV[1], table.concat(all, ' '))
         redis.call('EXPIRE', KEYS[1], ARGV[3])
         return table.concat(others, ' ')",
    )
});

/// Takes a start back. KEYS: hash of starts. ARGV: task and round, worker.
pub(super) static TAKE_BACK_START: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local left = {}
         for worker in string.gmatch(redis.call('HGET', KEYS[1], ARGV[1]) or '', '%S+') do
           if worker ~= ARGV[2] then left[#left + 1] = worker end
         end
         if #left == 0 then
           redis.call('HDEL', KEYS[1], ARGV[1])
         else
           redis.call('HSET', KEYS[1], ARGV[1], table.concat(left, ' '))
         end
         return 1",
    )
});

/// Adds to sets, each of which is begun anew when it is full. KEYS: one set for each value. ARGV: values in a set at
/// most, seconds to live, then the values.
pub(super) static ADD_BLOBS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "for at = 1, #KEYS do
           if redis.call('SCARD', KEYS[at]) >= tonumber(ARGV[1]) then redis.call('DEL', KEYS[at]) end
           redis.call('SADD', KEYS[at], ARGV[at + 2])
           redis.call('EXPIRE', KEYS[at], ARGV[2])
         end
         return 1",
    )
});

/// What the members of a registry last said; who is silent is taken out. KEYS: set of ids. ARGV: what stands before an
/// id in the key of its heartbeat, which has the same hash tag.
pub(super) static LIST_REGISTRY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local said = {}
         for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
           local heartbeat = redis.call('GET', ARGV[1] .. id)
           if heartbeat then said[#said + 1] = heartbeat else redis.call('SREM', KEYS[1], id) end
         end
         return said",
    )
});
