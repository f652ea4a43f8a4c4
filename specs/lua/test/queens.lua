-- All ways to put n queens on a board of n times n so that none attacks another.
-- Uses what a Lua must get right: coroutines, closures, metatables, integers, strings, errors.

local Board = {}
Board.__index = Board

function Board.new(n)
  return setmetatable({ n = n, row = {}, columns = 0, up = 0, down = 0 }, Board)
end

function Board:free(r, c)
  return (self.columns >> c) & 1 == 0
    and (self.up >> (r + c)) & 1 == 0
    and (self.down >> (r - c + self.n)) & 1 == 0
end

function Board:flip(r, c)
  self.columns = self.columns ~ (1 << c)
  self.up = self.up ~ (1 << (r + c))
  self.down = self.down ~ (1 << (r - c + self.n))
end

function Board:__tostring()
  return table.concat(self.row, " ")
end

local function solutions(n)
  local board = Board.new(n)
  local function place(r)
    if r > n then
      coroutine.yield(tostring(board))
      return
    end
    for c = 1, n do
      if board:free(r, c) then
        board:flip(r, c)
        board.row[r] = c
        place(r + 1)
        board.row[r] = nil
        board:flip(r, c)
      end
    end
  end
  return coroutine.wrap(function() place(1) end)
end

local n = math.tointeger(tonumber(arg[1])) or error("usage: queens.lua N")
local count, checksum, mirrored = 0, 0, {}
for solution in solutions(n) do
  count = count + 1
  for digit in solution:gmatch("%d+") do
    checksum = (checksum * 31 + digit) % 1000000007
  end
  mirrored[solution] = true
  if count <= 3 then print(solution) end
end

local paired = 0
for solution in pairs(mirrored) do
  local mirror = solution:gsub("%d+", function(c) return n + 1 - c end)
  assert(mirrored[mirror], "a solution without its mirror image")
  paired = paired + 1
end

print(string.format("%d queens: %d solutions, %d mirrored, checksum %d", n, count, paired, checksum))
print(select("#", pcall(error, { code = 7 })), 7 // 2, 7 / 2, 2 ^ 53 | 0, string.rep("na", 2, "-"))
