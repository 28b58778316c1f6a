-- The Generic Cell Rate Algorithm over every bucket of one call, all or nothing; see gcra.rs. Times are in whole
-- microseconds of Redis's own clock, below 2^53, up to which a Lua number is exact.
--
-- KEYS[i]      a bucket: holds its theoretical arrival time (TAT), and expires when it is full again
-- ARGV[2i-1]   what the call takes from it
-- ARGV[2i]     what it holds
-- returns      1 if admitted, else 0; now; the TAT of each bucket

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local kept = redis.call('MGET', unpack(KEYS))
local tats, changed = {}, {}
local admitted = true

for i = 1, #KEYS do
  local need, capacity = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local tat = math.max(tonumber(kept[i] or 0) or 0, now)
  -- Drained under a slower rate: no emptier than empty. Kept even when denied, or it would stay so.
  changed[i] = tat > now + capacity
  tats[i] = math.min(tat, now + capacity)
  admitted = admitted and tats[i] + need <= now + capacity
end

local answer = { admitted and 1 or 0, now }
for i = 1, #KEYS do
  local need = tonumber(ARGV[2 * i - 1])
  if admitted and need > 0 then
    tats[i] = tats[i] + need
    changed[i] = true
  end
  if changed[i] then
    local expiry = math.max(math.ceil((tats[i] - now) / 1000), 1)
    redis.call('SET', KEYS[i], string.format('%.0f', tats[i]), 'PX', string.format('%.0f', expiry))
  end
  answer[i + 2] = tats[i]
end
return answer
