-- Which tables stay together on one page, in both PDFs. How tables look: conf.typ (Typst), header.tex (XeLaTeX).
--
-- One rule: a table up to KEPT high is not broken and floats, as figures do, to where it leaves no page half empty; a
-- longer one stands in the text, runs on over pages and repeats its heading. The height is
-- estimated from the characters of the cells. Runs before xref.lua, which turns code into raw text.

local KEPT = 15 -- cm, of the 24.7 that a page has for text
local SIZES = { -- cm: a line of a cell, what a row adds to its lines; characters in a line as wide as the page's text
  latex = { en = { line = 0.48, row = 0.07, characters = 95 }, zh = { line = 0.54, row = 0.1, characters = 95 } },
  typst = { en = { line = 0.38, row = 0.13, characters = 110 }, zh = { line = 0.38, row = 0.13, characters = 95 } },
}
local CAPTION_LINES, START_LINES = 3, 6 -- a long table does not start where fewer lines are left
local size

local function lines_of(row, widths)
  local tallest = 1
  for i, cell in ipairs(row.cells) do
    local text = pandoc.utils.stringify(cell.contents)
    local length = utf8.len(text) + (#text - utf8.len(text)) / 2 -- a Chinese character has 3 bytes and double width
    local width = #row.cells == #widths and widths[i][2] or nil -- nil where the table is as narrow as its cells
    if width then tallest = math.max(tallest, math.ceil(length / (width * size.characters))) end
  end
  return tallest
end

local function height(tbl)
  local total = CAPTION_LINES * size.line
  local function add(rows)
    for _, row in ipairs(rows) do total = total + lines_of(row, tbl.colspecs) * size.line + size.row end
  end
  add(tbl.head.rows)
  for _, body in ipairs(tbl.bodies) do add(body.body) end
  return total
end

-- A long table asks for room to start, and in LaTeX no figure waits until it is over. Others: placement.lua.
local function in_latex(tbl, high)
  if high <= KEPT and #tbl.caption.long > 0 then
    tbl.attributes.kept = "yes"
    return tbl
  end
  local room = math.min(high, (START_LINES + CAPTION_LINES) * size.line)
  return { pandoc.RawBlock("latex", string.format("\\nofigurewaits\\keepfree{%.2fcm}", room)), tbl }
end

local function in_typst(tbl, high)
  if high > KEPT then
    local room = string.format("%.2fcm", (START_LINES + CAPTION_LINES) * size.line)
    return { pandoc.RawBlock("typst", "#block(breakable: false, above: 0pt, below: 0pt, height: " .. room .. ")\n#v(-" .. room .. ")"), tbl }
  end
  return { pandoc.RawBlock("typst", "#[#set figure(placement: auto)"), tbl, pandoc.RawBlock("typst", "]") }
end

-- A row whose first cell alone says something is a heading within the table, as wide as the table.
local function spread(row)
  local first = row.cells[1]
  for i = 2, #row.cells do
    if #row.cells[i].contents > 0 then return false end
  end
  if #row.cells < 2 or #first.contents == 0 or first.col_span > 1 then return false end
  first.col_span = #row.cells
  row.cells = { first }
  return true
end

-- Such a heading stays on the page of the row below it. Typst knows that of headings only: placement.lua.
local function stays_with_heading(row)
  local inside = row.cells[1].contents[1]
  if FORMAT == "latex" and inside then inside.content:insert(1, pandoc.RawInline("latex", "\\noalign{\\nobreak}")) end
end

local function keep_together(tbl)
  for _, body in ipairs(tbl.bodies) do
    local below = false
    for _, row in ipairs(body.body) do
      local heading = spread(row)
      if heading then tbl.attributes.headed = "yes" elseif below then stays_with_heading(row) end
      below = heading
    end
  end
  if FORMAT ~= "typst" then tbl.attributes.headed = nil end
  if not size then return tbl end
  return (FORMAT == "latex" and in_latex or in_typst)(tbl, height(tbl)) or tbl
end

local function read_meta(meta)
  local language = pandoc.utils.stringify(meta["report-language"] or "en")
  size = SIZES[FORMAT] and assert(SIZES[FORMAT][language], "tables.lua knows no line of the language " .. language)
end

return { { Meta = read_meta }, { Table = keep_together } }
