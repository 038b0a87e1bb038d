-- Which rule of the policy holds for a job, and what it allows.
--
-- Rules are numbered in the order of the YAML, and the first that matches wins. policy.index names for each value of a
-- rule's most selective criterion (user, account, QOS, partition) the rules that need it, in order: rules about others
-- are never looked at.

local part = ...
local text = part("text")

local M = {}

local CRITERIA = { "users", "accounts", "qos", "partitions" }

local function matches(rule, who)
  for _, criterion in ipairs(CRITERIA) do
    if rule[criterion] and not (who[criterion] and rule[criterion][who[criterion]]) then return false end
  end
  return true
end

-- The number of the first matching rule for one partition, nil where none matches.
local function first_match(policy, who)
  local best
  local function try(numbers)
    for _, number in ipairs(numbers or {}) do
      if best and number >= best then return end
      if matches(policy.rules[number], who) then best = number return end
    end
  end
  for _, criterion in ipairs(CRITERIA) do
    if who[criterion] then try(policy.index[criterion][who[criterion]]) end
  end
  try(policy.index.any)
  return best
end

-- What holds for a job: { name, get = function(key) }, where name is how the grant and messages call it. The job's
-- partitions must agree on the rule, or it could be placed where another one holds.
function M.find(policy, request)
  local names = request.partitions or {}
  local found
  for index = 1, math.max(1, #names) do
    local who = { users = request.user, accounts = request.account, qos = request.qos, partitions = names[index] }
    local number = first_match(policy, who) or 0
    if found and found ~= number then
      text.refuse("partitions " .. text.show(table.concat(names, ",")),
        "-p %s: the policy has different rules for these partitions: name one partition",
        text.show(table.concat(names, ",")))
    end
    found = number
  end
  local rule = policy.rules[found]
  local name = rule and "rule " .. rule.name
  if not rule then
    name = #names > 1 and "partitions " or "partition "
    name = name .. text.show(#names > 0 and table.concat(names, ",") or "unknown")
  end
  return {
    name = name,
    get = function(key)
      if rule and rule[key] ~= nil then return rule[key] end
      return policy.limits[key]
    end,
  }
end

return M
