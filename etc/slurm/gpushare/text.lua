-- Users' text: how it is split, shown in one line, and refused.

local M = {}

-- Leave the decision; decide() turns it into the outcome "refused". Anything else that is raised is a fault of ours.
function M.refuse(rule, ...)
  error({ refused = string.format(...), rule = rule }, 0)
end

-- Run a function that may refuse: its result, or the outcome "refused".
function M.catching_refusals(action, ...)
  local ok, result = pcall(action, ...)
  if ok then return result end
  if type(result) == "table" and result.refused then
    return { outcome = "refused", message = result.refused, rule = result.rule, set = {} }
  end
  error(result, 0)
end

-- User's text fit for one line of a message.
function M.show(text)
  text = tostring(text)
  if text:find("[^ -~]") then text = text:gsub("[^ -~]", "?") end
  if #text > 60 then text = text:sub(1, 57) .. "..." end
  return text
end

-- The parts of a text between separators, each of them what the pattern finds.
function M.split(text, separator)
  local parts, from = {}, 1
  while true do
    local first, last = text:find(separator, from)
    parts[#parts + 1] = text:sub(from, (first or 0) - 1)
    if not first then return parts end
    from = last + 1
  end
end

function M.sorted_keys(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

-- A number as users write it; a locale's comma would make another number of it.
function M.decimal(number)
  local digits = string.format("%.12g", number)
  return digits:find(",", 1, true) and digits:gsub(",", ".") or digits
end

return M
