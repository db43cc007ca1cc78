-- One atomic, fenced write of one shard.
--
-- KEYS[1] is the commit record, KEYS[2] the outbox, the others are named by the operations.
-- ARGV: fence, sequence that must be stored now, sequence of this commit, commit record fields
-- (MessagePack map), changes ('' for none), then operations: command, key number, argument count,
-- arguments.
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

local at, last = 6, #ARGV
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

if ARGV[5] ~= '' then
  local id = seq .. '-0'
  local added = redis.pcall('XADD', outbox, id, 'changes', ARGV[5])
  if type(added) == 'table' and added.err then
    -- an entry of this or a later sequence is left from a try that stopped half-way, or from
    -- before the store came back older: it was never decided, or is decided no more
    for _, entry in ipairs(redis.call('XRANGE', outbox, id, '+')) do
      redis.call('XDEL', outbox, entry[1])
    end
    redis.call('XSETID', outbox, string.format('%.0f-18446744073709551615', tonumber(seq) - 1))
    redis.call('XADD', outbox, id, 'changes', ARGV[5])
  end
end

local fields = cmsgpack.unpack(ARGV[4])
local flat = {'seq', seq}
for name, value in pairs(fields) do
  flat[#flat + 1] = name
  flat[#flat + 1] = value
end
redis.call('HSET', commit, unpack(flat))
return 'OK'
