-- One atomic, fenced write of one shard.
--
-- KEYS[1] is the commit record, KEYS[2] the outbox, the others are named by the operations.
-- ARGV: fence, sequence that must be stored now, sequence of this commit, how many arguments the
-- outbox entries are, those (sequence, changes), how many the commit record's fields and values are,
-- those, then operations: command, key number, argument count, arguments.
--
-- Replies OK, DONE (this very commit is stored already: an earlier try whose answer was lost),
-- 'FENCED <fence>' (another engine owns the shard) or 'BEHIND <sequence>' (the store came back
-- older). Lua does not roll back: a command that failed half-way would leave states that are newer
-- than their positions. So all keys are looked at before the first write, which a user without
-- rights there may not, and for each command whether this user may send it (where the server can
-- tell: from Redis 7 on); then nothing can fail. The sequence comes last all the same, and a repeat
-- writes the same again.

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

local entries = tonumber(ARGV[4])
local fields = tonumber(ARGV[5 + entries])
local record, first, last = 6 + entries, 6 + entries + fields, #ARGV

local function must_be(key, kind)
  local held = redis.call('TYPE', key)['ok']
  if held ~= 'none' and held ~= kind then
    return redis.error_reply('WRONGTYPE ' .. key .. ' must be a ' .. kind .. ' but is a ' .. held
      .. ': something else wrote there; nothing was written')
  end
end

local allowed = {}

local function must_be_allowed(command, key, ...)
  if not allowed[command] then
    allowed[command] = not redis.acl_check_cmd or redis.acl_check_cmd(command, key, ...)
    if not allowed[command] then
      return redis.error_reply('NOPERM this user may not ' .. command .. ' ' .. key
        .. '; nothing was written')
    end
  end
end

local KIND = {HSET = 'hash', HDEL = 'hash', SADD = 'set', SREM = 'set', APPEND = 'string',
  XADD = 'stream'}
local at = first
while at <= last do
  local command, key, count = ARGV[at], KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  at = at + 3
  local wrong = KIND[command] and must_be(key, KIND[command])
    or must_be_allowed(command, key, unpack(ARGV, at, at + math.min(count, 2) - 1))
  if wrong then
    return wrong
  end
  at = at + count
end
local wrong = must_be_allowed('HSET', commit, 'seq', seq)
if entries > 0 then
  wrong = wrong or must_be(outbox, 'stream') or must_be_allowed('XADD', outbox, '*', 'changes', '')
end
if wrong then
  return wrong
end

at = first
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

for i = 5, 4 + entries, 2 do
  redis.call('XADD', outbox, ARGV[i] .. '-*', 'changes', ARGV[i + 1])
end

redis.call('HSET', commit, 'seq', seq, unpack(ARGV, record, record + fields - 1))
return 'OK'
