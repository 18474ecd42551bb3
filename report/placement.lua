-- What stays together on a page, in both PDFs. Runs after citeproc, because it writes LaTeX and Typst itself.

-- Tables that stay on one page (tables.lua says which) float in LaTeX as figures do, so that text fills the page before.
local function floating(tbl)
  if FORMAT ~= "latex" or not tbl.attributes.kept then return nil end
  tbl.attributes.kept = nil
  local text = pandoc.write(pandoc.Pandoc({ tbl }), "latex", { wrap_text = "wrap-none" })
  local columns, caption, head, rows = text:match(
    "\\begin{longtable}%[%](.-)\n(\\caption.-)\\tabularnewline\n(.-)\\endfirsthead.-\\endlastfoot\n(.-)\\end{longtable}")
  assert(columns, "pandoc writes tables in another way now:\n" .. text)
  return pandoc.RawBlock("latex", "\\begin{floatingtable}{" .. caption .. "}" .. columns .. "\n" .. head .. rows
    .. "\\bottomrule\\noalign{}\n\\end{floatingtable}")
end

-- In Typst a heading within a table stays with the row below it if the table knows it for a heading.
local function headed(tbl)
  if FORMAT ~= "typst" or not tbl.attributes.headed then return nil end
  tbl.attributes.headed = nil
  local text = pandoc.write(pandoc.Pandoc({ tbl }), { format = "typst", extensions = PANDOC_WRITER_OPTIONS.extensions },
    { wrap_text = "wrap-none" })
  local found
  text, found = text:gsub("\n(%s*)(table%.cell%(colspan: %d+%)%[[^\n]*%]),\n", "\n%1table.header(level: 2, repeat: false, %2),\n")
  assert(found > 0, "pandoc writes headings within tables in another way now:\n" .. text)
  return pandoc.RawBlock("typst", text)
end

-- Short code is not broken, and stays with the sentence before it.
local SHORT = 25 -- lines
local AROUND = { latex = { "\\begin{samepage}", "\\end{samepage}" }, typst = { "#block(breakable: false)[", "]" } }

local function with_sentence(blocks)
  local around = AROUND[FORMAT]
  if not around then return nil end
  local out = pandoc.Blocks({})
  for _, block in ipairs(blocks) do
    local _, breaks = (block.t == "CodeBlock" and block.text or ""):gsub("\n", "\n")
    if block.t == "CodeBlock" and breaks < SHORT then
      local sentence = #out > 0 and out[#out].t == "Para" and out:remove() or nil
      out:insert(pandoc.RawBlock(FORMAT, around[1]))
      if sentence then out:insert(sentence) end
      out:insert(block)
      out:insert(pandoc.RawBlock(FORMAT, around[2]))
    else
      out:insert(block)
    end
  end
  return out
end

-- What is read aloud of a figure's images: the alt text of the first that has one, else the caption. pandoc tells LaTeX and
-- HTML, not Typst.
local function read_aloud(figure)
  if FORMAT ~= "typst" then return nil end
  local said
  figure:walk({ Image = function(image) said = said or image.attributes.alt end })
  said = (said or pandoc.utils.stringify(figure.caption.long)):gsub('[\\"]', "\\%0")
  return { pandoc.RawBlock("typst", '#[#set image(alt: "' .. said .. '")'), figure, pandoc.RawBlock("typst", "]") }
end

return { { Table = function(tbl) return floating(tbl) or headed(tbl) end, Figure = read_aloud }, { Blocks = with_sentence } }
