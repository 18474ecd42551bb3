-- What the page on a screen has beyond print (page.html, style.css, page.js): one h1, a link at each heading, formulas
-- and tables that scroll or fold on a phone, each table as CSV, each reference as BibTeX, links from figures to the replies
-- that they count, and from their points. Runs last, after citeproc.

local WORDS = {
  en = { contents = "Contents", skip = "Skip to the text", top = "Back to top", other = "中文", ["other-tag"] = "zh-CN",
    link = "Link to this place: ", csv = "Table as CSV", copy = "Copy BibTeX", copied = "Copied",
    scrolls = "Scrolls sideways", reference = "Reference", explorer = "Replies", explore = "Look at these cases",
    further = " (%d)", point = "; a click on a point opens its case" },
  zh = { contents = "目录", skip = "跳到正文", top = "回到顶部", other = "English", ["other-tag"] = "en",
    link = "本节链接：", csv = "下载表格（CSV）", copy = "复制 BibTeX", copied = "已复制",
    scrolls = "可左右滚动", reference = "参考文献", explorer = "回复", explore = "查看这些案例", further = "（%d）",
    point = "；点击图中的点可打开对应案例" },
}
local words, language, bibliography
local explorer, views -- the page of replies beside this one, if there is one; figure -> what it shows there

local function read_meta(meta)
  language = pandoc.utils.stringify(meta["report-language"] or "en")
  words = WORDS[language]
  bibliography = pandoc.utils.stringify(meta.bibliography or "")
  meta.words = words
  explorer = meta.explorer and pandoc.utils.stringify(meta.explorer)
  views, meta.views = meta.views or {}, nil
  return meta
end

-- Words alone; a formula that is one Greek letter is that letter, not its name in TeX.
local GREEK = { alpha = "α", beta = "β", gamma = "γ", epsilon = "ε", lambda = "λ", pi = "π", rho = "ρ", sigma = "σ", tau = "τ" }

local function text_of(content)
  local part = pandoc.utils.type(content) == "Blocks" and pandoc.Div(content) or pandoc.Plain(content)
  local said = part:walk({ Math = function(math)
    local letter = GREEK[math.text:match("^\\(%a+)$")]
    return letter and pandoc.Str(letter)
  end })
  return (pandoc.utils.stringify(said):gsub("%s+", " "))
end

-- For attributes written by hand.
local function escaped(text)
  return (text:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

-- Headings and formulas -------------------------------------------------------------------------------------------
-- The title is the page's only h1. The link is empty, so that the contents, which repeat a heading, stay clean.
local function heading(header)
  header.level = header.level + 1
  local label = words.link .. text_of(header.content)
  header.content:insert(pandoc.Link({}, "#" .. header.identifier, "", { class = "anchor", ["aria-label"] = label }))
  return header
end

-- TeX sets a thin space beside log and the like, of which MathML knows nothing: before, where a quantity ends there, and
-- behind, where no bracket opens.
local OPERATORS = { arg = true, exp = true, ln = true, log = true, max = true, min = true }

local function spaced(text)
  local out, place = "", 1
  for from, name, to in text:gmatch("()\\(%a+)()") do
    if OPERATORS[name] then
      out = out .. text:sub(place, from - 1)
      if out:match("[%w%)%]}|]%s*$") then out = out .. "\\," end
      place = text:match("^[_^]%b{}()", to) or text:match("^[_^]%w()", to) or to
      out = out .. text:sub(from, place - 1)
      local rest = text:sub(place):gsub("^%s+", "")
      local opens = rest:match("^\\left%f[%A]") or rest:match("^\\right%f[%A]")
      if not opens and (rest:match("^[%w{]") or rest:match("^\\%a")) then out = out .. "\\," end
    end
  end
  return out .. text:sub(place)
end

local function formula(math)
  math.text = spaced(math.text)
  if math.mathtype == "DisplayMath" then return pandoc.Span({ math }, { class = "formula" }) end
  return math
end

-- Tables ----------------------------------------------------------------------------------------------------------
-- A cell as a spreadsheet reads it: a plain minus sign, no marks of where a line may break or may not, and no text that
-- would be taken for a formula.
local function csv_cell(text)
  text = text:gsub("−(%.?%d)", "-%1"):gsub("\u{200B}", ""):gsub("\u{A0}", " ")
  local number = text:match("^[+-]?[%d.,]+%%?$") or text:match("^[+-]?[%d.,]+%%? %(")
  if text:match("^[=+@-]") and not number then text = "'" .. text end
  return text:match('[",\n]') and '"' .. text:gsub('"', '""') .. '"' or text
end

-- A link to the cases that a figure or a table counts, on the page of replies; nil where there is none.
local function case_link(name, number)
  local view = explorer and views[name]
  if not view then return nil end
  local address = explorer .. "#lang=" .. language .. "&" .. pandoc.utils.stringify(view)
  return string.format('<a href="%s">%s%s</a>', escaped(address), words.explore, number)
end

local function csv_link(rows, name)
  local lines = pandoc.List({})
  for _, row in ipairs(rows) do
    local cells = row.cells:map(function(cell) return csv_cell(text_of(cell.contents)) .. (","):rep(cell.col_span - 1) end)
    lines:insert(table.concat(cells, ","))
  end
  local data = ("\u{FEFF}" .. table.concat(lines, "\r\n") .. "\r\n"):gsub("[^%w%-_.]", function(byte)
    return string.format("%%%02X", byte:byte())
  end)
  local link = case_link("tbl:" .. name, "")
  return pandoc.RawBlock("html", string.format('<p class="csv">%s<a download="%s.csv" href="data:text/csv;charset=utf-8,%s">%s</a></p>',
    link and link .. " · " or "", escaped(name), data, words.csv))
end

-- A row of words alone, which tables.lua lets run over all columns.
local function is_heading(row)
  return row.cells[1].col_span > 1
end

-- Samples of English text in the Chinese report are read as English.
local function mark_language(cell)
  local text = text_of(cell.contents)
  -- the bytes that begin a Chinese character
  if language == "zh" and text:match("%a+ %a+ %a+") and not text:match("[\xE4-\xE9]") then
    cell.attributes.lang = "en"
  end
end

-- Roles stay when a narrow screen lays the cells out as blocks.
local function mark_row(row, heads)
  row.attributes.role = "row"
  for i, cell in ipairs(row.cells) do
    cell.attributes.role = i == 1 and "rowheader" or "cell"
    if i == 1 then cell.attributes.scope = "row" else cell.attributes.label = heads[i] end
    mark_language(cell)
  end
end

-- A row of words alone heads the rows below it: they become a body of their own.
local function split_bodies(tbl, heads)
  local bodies, body = pandoc.List({}), nil
  for _, old in ipairs(tbl.bodies) do
    for _, row in ipairs(old.body) do
      local heading_row = is_heading(row)
      if not body or heading_row then
        body = { attr = pandoc.Attr("", {}, { role = "rowgroup" }), body = pandoc.List({}), head = pandoc.List({}), row_head_columns = 1 }
        bodies:insert(body)
      end
      mark_row(row, heads)
      if heading_row then
        row.cells[1].attributes.scope = "rowgroup"
        body.head:insert(row) -- among the body's rows pandoc would cut it to the first column
      else
        body.body:insert(row)
      end
    end
  end
  return bodies
end

-- The heading of a table, which also names what each cell stands under where a row is folded.
local function mark_head(head)
  local heads = {}
  for _, row in ipairs(head.rows) do
    row.attributes.role = "row"
    for i, cell in ipairs(row.cells) do
      heads[i] = text_of(cell.contents)
      cell.attributes.scope, cell.attributes.role = "col", "columnheader"
    end
  end
  head.attributes.role = "rowgroup"
  return heads
end

-- Tables as wide as the text (pandoc gives them widths) fold to one block a row on a phone, others scroll.
local function table_figure(tbl)
  local id, caption, rows = tbl.identifier, tbl.caption.long, pandoc.List({})
  rows:extend(tbl.head.rows)
  for _, body in ipairs(tbl.bodies) do rows:extend(body.body) end
  local csv = csv_link(rows, id:gsub("^tbl:", ""))
  tbl.bodies = split_bodies(tbl, mark_head(tbl.head))
  tbl.attr = pandoc.Attr("", tbl.colspecs[1][2] and { "fold" } or {}, { role = "table" })
  tbl.caption = { long = {} }
  local out = pandoc.Blocks({ pandoc.RawBlock("html", '<figure class="table" id="' .. escaped(id) .. '">') })
  if #caption > 0 then
    tbl.attributes["aria-labelledby"] = "cap-" .. id
    out:insert(pandoc.RawBlock("html", '<figcaption id="cap-' .. escaped(id) .. '">'))
    out:extend(caption)
    out:insert(pandoc.RawBlock("html", "</figcaption>"))
  end
  out:extend({ pandoc.Div({ tbl }, { class = "scroll" }), csv, pandoc.RawBlock("html", "</figure>") })
  return out
end

-- Figures ---------------------------------------------------------------------------------------------------------
-- Each image in a box of its own, which scrolls where the screen is too narrow for the image's words (style.css).
local function drawn_width(source)
  local file = source:match("%.svg$") and io.open(source)
  if not file then return nil end
  local points = file:read(2000):match('<svg[^>]- width="([%d.]+)pt"')
  file:close()
  return points and string.format("--drawn: %.0fpx", points * 96 / 72)
end

-- Over the image, each point that is one case as a link to it. They are for those who point: the keyboard and readers
-- of the page take the link below the caption, which leads to all of these cases.
local function cases_of(source)
  return explorer and source:match("%.svg$") and io.open((source:gsub("%.svg$", ".cases.json")))
end

local function case_points(source)
  local file = cases_of(source)
  if not file then return nil end
  local found, parts = pandoc.json.decode(file:read("a"), false), pandoc.List({})
  file:close()
  parts:insert(string.format('<svg class="points" viewBox="0 0 %s %s" aria-hidden="true">', table.unpack(found.size)))
  for _, group in ipairs(found.groups) do
    local address = escaped(explorer .. "#lang=" .. language .. "&" .. group.address .. "&case=")
    for _, point in ipairs(group.points) do
      parts:insert(string.format('<a href="%s%s" tabindex="-1"><circle cx="%s" cy="%s" r="2"/></a>', address, escaped(point[3]), point[1], point[2]))
    end
  end
  parts:insert("</svg>")
  return pandoc.RawInline("html", table.concat(parts))
end

local function panel(image)
  local styles = pandoc.List({})
  if image.attributes.width then styles:insert("width: " .. image.attributes.width) end
  styles:insert(drawn_width(image.src))
  image.attributes.width = nil
  local points = case_points(image.src)
  local drawn = points and pandoc.Span({ image, points }, { class = "drawn" }) or image
  return pandoc.Span({ drawn }, { class = "panel scroll", style = table.concat(styles, "; ") })
end

-- Below the caption, the links of its panels.
local function figure_link(figure)
  local links, caption, pointed = pandoc.List({}), figure.caption, ""
  figure:walk({ Image = function(image)
    local file = cases_of(image.src)
    if file then file:close(); pointed = words.point end
    local number = #links > 0 and words.further:format(#links + 1) or ""
    local link = case_link(image.src:match("([%w_-]+)%.%a+$"), number)
    if link then links:insert(link) end
  end })
  if #links == 0 then return nil end
  caption.long:insert(pandoc.RawBlock("html", '<p class="cases">' .. table.concat(links, " · ") .. pointed .. "</p>"))
  figure.caption = caption
  return figure
end

-- References ------------------------------------------------------------------------------------------------------
-- The entries of the bibliography as they stand there, one field a line.
local function bibtex_entries()
  local entries = {}
  local file = io.open(bibliography)
  for line in file and file:lines() or function() end do
    local key = line:match("^@%w+{([^,%s]+)")
    if key then entries[key] = line:gsub("[,%s]+([%w-]+)%s*=%s*{", ",\n  %1={"):gsub("}}%s*$", "}\n}") end
  end
  if file then file:close() end
  return entries
end

local function add_bibtex(div)
  if div.identifier ~= "refs" then return nil end
  local entries = bibtex_entries()
  div.attributes.lang = "en"
  for _, entry in ipairs(div.content) do
    local key = entry.identifier:gsub("^ref%-", "")
    if entries[key] then
      entry.content:insert(pandoc.RawBlock("html", "<details><summary>BibTeX</summary>"))
      entry.content:insert(pandoc.CodeBlock(entries[key]))
      entry.content:insert(pandoc.RawBlock("html", "</details>"))
    end
  end
  return div
end

return {
  { Meta = read_meta },
  { Header = heading, Math = formula, Table = table_figure, Figure = figure_link, Image = panel, Div = add_bibtex },
}
