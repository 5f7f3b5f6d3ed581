-- As much of Valkey as creditd's scripts and calls use, for a Lua 5.1 inside the simulator's process: strings, hashes in
-- the order of insertion (as a small hash of Valkey's has it), cmsgpack, scripts with flags, and RESP replies.
-- Keys never run out here. test_hot.py holds it against the real server.

local floor, char, byte, sub, format = math.floor, string.char, string.byte, string.sub, string.format
local concat = table.concat

-- cmsgpack, bit for bit as lua_cmsgpack packs.

local function big_endian(n, bytes)
  local out = {}
  for i = bytes, 1, -1 do
    out[i] = char(n % 256)
    n = floor(n / 256)
  end
  return concat(out)
end

local function pack_integer(n)
  if n >= 0 then
    if n <= 127 then return char(n) end
    if n <= 0xff then return char(0xcc, n) end
    if n <= 0xffff then return char(0xcd, floor(n / 256), n % 256) end
    if n <= 0xffffffff then return '\206' .. big_endian(n, 4) end
    return '\207' .. big_endian(n, 8)
  end
  if n >= -32 then return char(256 + n) end
  if n >= -128 then return char(0xd0, 256 + n) end
  if n >= -32768 then return '\209' .. big_endian(n + 65536, 2) end
  if n >= -2147483648 then return '\210' .. big_endian(n + 4294967296, 4) end
  -- Two's complement of 64 bits in two halves: a double can't hold the sum.
  local high, low = floor(n / 4294967296), n % 4294967296
  return '\211' .. big_endian(high + 4294967296, 4) .. big_endian(low, 4)
end

local pack_value

local function pack_table(value, out)
  local count, most = 0, 0
  for key in pairs(value) do
    if type(key) ~= 'number' or key < 1 or key ~= floor(key) then error('only arrays are packed here') end
    count = count + 1
    if key > most then most = key end
  end
  if count ~= most then error('only arrays are packed here') end
  if count <= 15 then
    out[#out + 1] = char(0x90 + count)
  elseif count <= 0xffff then
    out[#out + 1] = '\220' .. big_endian(count, 2)
  else
    out[#out + 1] = '\221' .. big_endian(count, 4)
  end
  for i = 1, count do pack_value(value[i], out) end
end

pack_value = function(value, out)
  local kind = type(value)
  if kind == 'number' then
    if value ~= floor(value) then error('only integers are packed here') end
    out[#out + 1] = pack_integer(value)
  elseif kind == 'string' then
    local length = #value
    if length < 32 then
      out[#out + 1] = char(0xa0 + length)
    elseif length <= 0xff then
      out[#out + 1] = char(0xd9, length)
    elseif length <= 0xffff then
      out[#out + 1] = '\218' .. big_endian(length, 2)
    else
      out[#out + 1] = '\219' .. big_endian(length, 4)
    end
    out[#out + 1] = value
  elseif kind == 'boolean' then
    out[#out + 1] = value and '\195' or '\194'
  elseif kind == 'table' then
    pack_table(value, out)
  else
    out[#out + 1] = '\192'
  end
end

local function number_at(data, at, bytes)
  local n = 0
  for i = at, at + bytes - 1 do n = n * 256 + byte(data, i) end
  return n, at + bytes
end

local unpack_value

local function unpack_array(data, at, count)
  local out = {}
  for i = 1, count do out[i], at = unpack_value(data, at) end
  return out, at
end

local function signed(n, bytes)
  local half = 256 ^ bytes / 2
  return n >= half and n - 2 * half or n
end

unpack_value = function(data, at)
  local head = byte(data, at)
  if not head then error('bad data') end
  at = at + 1
  if head <= 0x7f then return head, at end
  if head >= 0xe0 then return head - 256, at end
  if head >= 0xa0 and head <= 0xbf then return sub(data, at, at + head - 0xa1), at + head - 0xa0 end
  if head >= 0x90 and head <= 0x9f then return unpack_array(data, at, head - 0x90) end
  if head == 0xc0 then return nil, at end
  if head == 0xc2 then return false, at end
  if head == 0xc3 then return true, at end
  if head >= 0xcc and head <= 0xcf then return number_at(data, at, 2 ^ (head - 0xcc)) end
  if head >= 0xd0 and head <= 0xd2 then
    local bytes = 2 ^ (head - 0xd0)
    local n, after = number_at(data, at, bytes)
    return signed(n, bytes), after
  end
  if head == 0xd3 then
    local high = number_at(data, at, 4)
    local low, after = number_at(data, at + 4, 4)
    return signed(high, 4) * 4294967296 + low, after
  end
  if head >= 0xd9 and head <= 0xdb then
    local length
    length, at = number_at(data, at, 2 ^ (head - 0xd9))
    return sub(data, at, at + length - 1), at + length
  end
  if head == 0xdc or head == 0xdd then
    local count
    count, at = number_at(data, at, head == 0xdc and 2 or 4)
    return unpack_array(data, at, count)
  end
  error('a kind of value that is not unpacked here: ' .. head)
end

local cmsgpack = {
  pack = function(value)
    local out = {}
    pack_value(value, out)
    return concat(out)
  end,
  unpack = function(data) return (unpack_value(data, 1)) end,
}

-- The keyspace. A hash is {fields = {name..}, place = {name -> index}, values = {..}}; a string is itself.

local function new_db() return {keys = {}} end

local function hash_of(db, key)
  local found = db.keys[key]
  if type(found) == 'string' then error('WRONGTYPE', 0) end
  return found
end

local commands = {}

function commands.GET(db, key) return db.keys[key] or false end

function commands.SET(db, key, value)
  db.keys[key] = value
  return {ok = 'OK'}
end

function commands.DEL(db, ...)
  local gone = 0
  for _, key in ipairs({...}) do
    if db.keys[key] then
      db.keys[key] = nil
      gone = gone + 1
    end
  end
  return gone
end

commands.UNLINK = commands.DEL

function commands.EXISTS(db, key) return db.keys[key] and 1 or 0 end

function commands.PEXPIRE(db, key) return db.keys[key] and 1 or 0 end

function commands.HGET(db, key, field)
  local hash = hash_of(db, key)
  return hash and hash.values[field] or false
end

function commands.HMGET(db, key, ...)
  local hash, out = hash_of(db, key), {}
  for i, field in ipairs({...}) do out[i] = hash and hash.values[field] or false end
  return out
end

function commands.HLEN(db, key)
  local hash = hash_of(db, key)
  return hash and #hash.fields or 0
end

function commands.HGETALL(db, key)
  local hash, out = hash_of(db, key), {}
  if hash then
    for _, field in ipairs(hash.fields) do
      out[#out + 1] = field
      out[#out + 1] = hash.values[field]
    end
  end
  return out
end

function commands.HSET(db, key, ...)
  local hash, added, pairs_given = hash_of(db, key), 0, {...}
  if not hash then
    hash = {fields = {}, values = {}}
    db.keys[key] = hash
  end
  for i = 1, #pairs_given, 2 do
    local field = pairs_given[i]
    if hash.values[field] == nil then
      hash.fields[#hash.fields + 1] = field
      added = added + 1
    end
    -- ARGV are strings; so is what cmsgpack packs.
    hash.values[field] = pairs_given[i + 1]
  end
  return added
end

function commands.HDEL(db, key, ...)
  local hash, gone = hash_of(db, key), 0
  if not hash then return 0 end
  for _, field in ipairs({...}) do
    if hash.values[field] ~= nil then
      hash.values[field] = nil
      for place, name in ipairs(hash.fields) do
        if name == field then
          table.remove(hash.fields, place)
          break
        end
      end
      gone = gone + 1
    end
  end
  if #hash.fields == 0 then db.keys[key] = nil end
  return gone
end

function commands.KEYS(db)
  local out = {}
  for key in pairs(db.keys) do out[#out + 1] = key end
  table.sort(out)
  return out
end

function commands.FLUSHDB(db)
  db.keys = {}
  return {ok = 'OK'}
end

-- RESP.

local function resp(value, out)
  local kind = type(value)
  if kind == 'string' then
    out[#out + 1] = '$' .. #value .. '\r\n' .. value .. '\r\n'
  elseif kind == 'number' then
    out[#out + 1] = format(':%.0f\r\n', value >= 0 and floor(value) or -floor(-value))
  elseif kind == 'table' and value.ok then
    out[#out + 1] = '+' .. value.ok .. '\r\n'
  elseif kind == 'table' and value.err then
    out[#out + 1] = '-' .. value.err .. '\r\n'
  elseif kind == 'table' then
    out[#out + 1] = '*' .. #value .. '\r\n'
    for i = 1, #value do resp(value[i], out) end
  elseif value == true then
    out[#out + 1] = ':1\r\n'
  else
    out[#out + 1] = '$-1\r\n'
  end
end

-- Scripts.

local scripts, present = {}, {}
local current
local OOM = "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'"

local redis = {
  call = function(name, ...)
    local command = commands[name]
    if not command then error('a command that is not known here: ' .. name, 0) end
    local arguments = {...}
    for i = 1, #arguments do
      if type(arguments[i]) == 'number' then arguments[i] = format('%.17g', arguments[i]) end
    end
    return command(current, unpack(arguments))
  end,
}

local function compile(digest, text)
  if not scripts[digest] then
    local first = text:match('^#![^\n]*') or ''
    local environment = {redis = redis, cmsgpack = cmsgpack}
    setmetatable(environment, {__index = _G, __newindex = function(_, name) error('global ' .. name, 0) end})
    local chunk = assert(loadstring(text:gsub('^#![^\n]*', '', 1), 'script'))
    setfenv(chunk, environment)
    scripts[digest] = {
      chunk = chunk,
      environment = environment,
      fits_when_full = first:find('allow%-oom') ~= nil or first:find('no%-writes') ~= nil,
    }
  end
  return scripts[digest]
end

local function run(db, full, script, count, arguments)
  if full and not script.fits_when_full then return {err = OOM} end
  local keys, argv = {}, {}
  for i = 1, #arguments do
    if i <= count then keys[i] = arguments[i] else argv[i - count] = arguments[i] end
  end
  rawset(script.environment, 'KEYS', keys)
  rawset(script.environment, 'ARGV', argv)
  current = db
  local fine, result = pcall(script.chunk)
  if not fine then return {err = 'ERR ' .. tostring(result):gsub('[\r\n]', ' ')} end
  return result
end

local function execute(db, full, name, ...)
  local out, arguments, result = {}, {...}, nil
  if name == 'EVALSHA' then
    if present[arguments[1]] then
      local script = scripts[arguments[1]]
      result = run(db, full, script, tonumber(arguments[2]), {select(3, ...)})
    else
      result = {err = 'NOSCRIPT No matching script.'}
    end
  elseif commands[name] then
    local fine, found = pcall(commands[name], db, ...)
    result = fine and found or {err = tostring(found)}
  else
    result = {err = 'ERR unknown command ' .. name}
  end
  if result == nil then result = false end
  resp(result, out)
  return concat(out)
end

local function keep_script(digest, text)
  compile(digest, text)
  present[digest] = true
end

local function eval(db, full, digest, text, count, ...)
  local out, script = {}, compile(digest, text)
  -- A script that is refused is not kept.
  if not full or script.fits_when_full then present[digest] = true end
  local result = run(db, full, scripts[digest], count, {...})
  if result == nil then result = false end
  resp(result, out)
  return concat(out)
end

local function copy(db)
  local made = new_db()
  for key, value in pairs(db.keys) do
    if type(value) == 'string' then
      made.keys[key] = value
    else
      local hash = {fields = {}, values = {}}
      for i, field in ipairs(value.fields) do
        hash.fields[i] = field
        hash.values[field] = value.values[field]
      end
      made.keys[key] = hash
    end
  end
  return made
end

local function forget_scripts() present = {} end

return execute, eval, keep_script, forget_scripts, new_db, copy
