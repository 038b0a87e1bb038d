-- One amount of GPU as users write it: 0.25, .25, 25%, 1/4, 8G or a whole number.

local M = {}

local EXACT_DIGITS = 9  -- after the point; further ones only round up. Keeps every product below 2^53.
local MIB_OF = { k = 1 / 1024, m = 1, g = 1024, t = 1024 * 1024 }
local NUMBER_WORDS = { nan = true, inf = true, infinity = true, half = true, third = true, quarter = true, all = true }

-- { num, den, sticky } for decimal digits over 10^shift: the digits stay apart, since 0.07 * 100 is more than 7 in binary.
local function ratio(whole, part, shift)
  if #whole > EXACT_DIGITS then return { num = math.huge, den = 1 } end
  local kept = part:sub(1, EXACT_DIGITS - shift)
  return { num = tonumber(whole .. kept) or 0, den = 10 ^ (#kept + shift), sticky = #part > #kept }
end

-- What the text says, nil for any other text:
--   { gpus = N, plain = true }    whole GPUs, as Slurm writes them (gpus = math.huge for what no cluster has)
--   { num, den, sticky }          a share num/den, or a little more where sticky
--   { mib = N }                   so much memory of a GPU, rounded up to MiB
function M.parse(text)
  local whole, point, part, percent = text:match("^0*(%d*)(%.?)(%d-)0*(%%?)$")
  if whole and text:find("%d") then
    if point == "" and percent == "" then
      return { gpus = #whole > EXACT_DIGITS and math.huge or tonumber(whole) or 0, plain = true }
    end
    return ratio(whole, part, percent == "" and 0 or 2)
  end
  local above, below = text:match("^(%d%d?%d?%d?)/(%d%d?%d?%d?)$")
  if above and tonumber(below) > 0 then return { num = tonumber(above), den = tonumber(below) } end
  local size, unit = text:match("^(%d+%.?%d*)([KMGTkmgt])$")
  if not size then size, unit = text:match("^(%d+%.?%d*)([KMGTkmgt])iB$") end
  if size and #size <= EXACT_DIGITS then
    return { mib = math.ceil(tonumber((size:gsub("%.$", ""))) * MIB_OF[unit:lower()]) }
  end
  return nil
end

-- Text that somebody reads as a number, though not as one that we take.
function M.is_odd_number(text)
  local lower = text:lower()
  return NUMBER_WORDS[lower] or lower:find("^[-+]") or lower:find("^0x") or lower:find("^%d*%.") or lower:find("[%%/]")
    or lower:find("^%d+e[+-]?%d+$") or lower:find("^%d+[kmgtp]$") or lower:find("^%d+[kmgtp]i?b$") or false
end

-- A GPU type of Slurm's, such as a100, 2080ti or 1g.10gb.
function M.is_type(text)
  return text:find("^[%w_][%w_.-]*$") and text:find("[%a_]") and not M.is_odd_number(text)
end

-- Slices for num/den of a GPU, rounded up; also whether it was on the grid, and the slices rounded down.
function M.to_slices(amount, slices_per_gpu)
  local product = amount.num * slices_per_gpu
  local down = math.floor(product / amount.den)
  local exact = not amount.sticky and down * amount.den == product
  return exact and down or down + 1, exact, down
end

return M
