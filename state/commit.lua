-- One atomic, fenced write of one shard.
--
-- KEYS[1] is the commit record, KEYS[2] the outbox, the others are named by the operations.
-- ARGV: fence, sequence that must be stored now, sequence of this commit, changes ('' for none), how
-- many arguments the commit record's fields and values are, those, then operations: command, key
-- number, argument count, arguments.
--
-- Replies OK, DONE (this very commit is stored already: an earlier try whose answer was lost),
-- 'FENCED <fence>' (another engine owns the shard) or 'BEHIND <sequence>' (the store came back
-- older). Lua does not roll back, so whatever comes before the sequence is written in a form that
-- a repeat writes again with the same result; the sequence comes last.

local commit, outbox = KEYS[1], KEYS[2]
local fence, expected, seq = ARGV[1], ARGV[2], ARGV[3]

local stored = redis.call('HMGET', commit, 'fence', 'seq')
if stored[1] ~= fence then
  return 'FENCED ' .. tostring(stored[1] or '')
end
local have = stored[2] or '0'
if have == seq then
  return 'DONE'
end
if have ~= expected then
  return 'BEHIND ' .. have
end

local fields = tonumber(ARGV[5])
local at, last = 6 + fields, #ARGV
while at <= last do
  local command, key, count = ARGV[at], KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  at = at + 3
  if count == 0 then
    redis.call(command, key)
  end
  for from = at, at + count - 1, 4000 do
    redis.call(command, key, unpack(ARGV, from, math.min(from + 3999, at + count - 1)))
  end
  at = at + count
end

if ARGV[4] ~= '' then
  -- entries of this sequence are left from a try that stopped half-way; they were never decided
  for _, entry in ipairs(redis.call('XRANGE', outbox, seq .. '-0', '+')) do
    redis.call('XDEL', outbox, entry[1])
  end
  redis.call('XADD', outbox, seq .. '-*', 'changes', ARGV[4])
end

redis.call('HSET', commit, 'seq', seq, unpack(ARGV, 6, 5 + fields))
return 'OK'
