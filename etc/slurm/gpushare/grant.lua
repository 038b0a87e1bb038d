-- The grant: the text that stands in a job's extra (slurm_gpushare/grant.py reads it).

local part = ...
local text = part("text")

local M = {}

M.PREFIX = '{"v":'  -- a job's extra that begins so is a grant, and nobody but job_submit.lua may write one
M.MAX_EXTRA = 1024  -- bytes; slurmctld refuses a longer extra with words that name no option
M.FORGED = "text that begins with " .. M.PREFIX .. " is gpushare's own: write it in another form"

function M.looks_like(extra)
  return type(extra) == "string" and extra:sub(1, #M.PREFIX) == M.PREFIX
end

-- Whether a text is UTF-8: every well-formed sequence is taken away, longest first, and no high byte may remain.
function M.is_utf8(value)
  for _, pattern in ipairs({
    "\240[\144-\191][\128-\191][\128-\191]", "[\241-\243][\128-\191][\128-\191][\128-\191]",
    "\244[\128-\143][\128-\191][\128-\191]", "\224[\160-\191][\128-\191]", "[\225-\236\238\239][\128-\191][\128-\191]",
    "\237[\128-\159][\128-\191]", "[\194-\223][\128-\191]",
  }) do
    value = value:gsub(pattern, "x")
  end
  return not value:find("[\128-\255]")
end

local function escape(char)
  if char == '"' or char == "\\" then return "\\" .. char end
  return string.format("\\u%04x", char:byte())
end

local function quote(value)
  return '"' .. value:gsub('[%c"\\]', escape) .. '"'
end

-- The grant as JSON, its keys in the order of grant_to_dict in slurm_gpushare/grant.py. Pure ASCII or the user's UTF-8.
function M.encode(grant)
  return M.PREFIX .. "1" .. string.format(
    ',"backend":%s,"gpus":%d,"fraction":%s,"slices":%d,"memory":%s,"nodes":%d,"rule":%s,"request":%s,"extra":%s%s}',
    quote(grant.backend), grant.gpus, text.decimal(grant.fraction), grant.slices,
    grant.memory and string.format("%.0f", grant.memory) or "null", grant.nodes, quote(grant.rule),
    quote(grant.request), quote(grant.extra), (grant.tasks or 1) > 1 and ',"tasks":' .. grant.tasks or "")
end

-- What encode wrote, as a table; nil for any other text. Numbers and null are all that stands beside texts in it.
function M.decode(extra)
  local fields, at = {}, 2
  while true do
    local key, after = extra:match('^"(%l+)":()', at)
    if not key then return nil end
    local plain, next_at = extra:match("^([%d.e+-]+)()", after)
    if plain then
      fields[key], at = tonumber(plain), next_at
    elseif extra:sub(after, after + 3) == "null" then
      at = after + 4
    elseif extra:sub(after, after) == '"' then
      local stop = after
      repeat
        stop = extra:find('["\\]', stop + 1)
        local escaped = stop and extra:sub(stop, stop) == "\\"
        if escaped then stop = stop + 1 end
      until not escaped
      if not stop then return nil end
      fields[key] = extra:sub(after + 1, stop - 1):gsub("\\(.)(%x?%x?%x?%x?)", function(char, hex)
        return char == "u" and string.char(tonumber(hex, 16)) or char .. hex
      end)
      at = stop + 1
    else
      return nil
    end
    local mark = extra:sub(at, at)
    at = at + 1
    if mark == "}" and at == #extra + 1 then return fields elseif mark ~= "," then return nil end
  end
end

return M
