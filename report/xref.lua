-- Numbered cross-references for figures, tables, equations and sections, in English and Chinese, for LaTeX, Typst
-- and HTML. Runs before citeproc, which would take @fig:x for a citation.
--
--   ![Caption](fig/x.pdf){#fig:x}    : Caption {#tbl:x}    $$ … $$ {#eq:x}    # Heading {#sec:x}
--   @fig:x -> "Figure 3"    -@fig:x -> "3"    [@fig:x; @tbl:y] -> "Figure 3, Table 2"
--   ::: {.figures #fig:x}  a paragraph of images, then a paragraph that is their caption  :::
--
-- LaTeX and Typst count for themselves (their own \ref and #ref, checked by them); for HTML the numbers are counted here.

local WORDS = {
  en = { fig = "Figure", tbl = "Table", eq = "Equation", sec = "Section", list = ", ", colon = ": " },
  zh = { fig = "图", tbl = "表", eq = "式", sec = "第", after_sec = "节", list = "、", colon = "：" },
}
local words, language
local numbers = {} -- HTML: number of each label
local counts = { fig = 0, tbl = 0, eq = 0 }
local sections = {}

local function kind_of(label)
  return label:match("^(%a+):")
end

local function count(label)
  local kind = kind_of(label)
  if counts[kind] == nil then return nil end
  counts[kind] = counts[kind] + 1
  numbers[label] = tostring(counts[kind])
  return numbers[label]
end

local function raw(text)
  local format = FORMAT:match("html") and "html" or FORMAT
  return pandoc.RawInline(format, text)
end

local function read_meta(meta)
  language = pandoc.utils.stringify(meta["report-language"] or "en")
  words = assert(WORDS[language], "xref.lua knows the report languages en and zh, not " .. language)
end

-- Several images with one caption ---------------------------------------------------------------------------------
local function figures_div(div)
  if not div.classes:includes("figures") then return nil end
  assert(#div.content == 2, "a .figures block needs a paragraph of images and a paragraph of caption")
  local caption = { long = pandoc.Plain(div.content[2].content) }
  return pandoc.Figure({ pandoc.Plain(div.content[1].content) }, caption, pandoc.Attr(div.identifier))
end

-- Captions and numbers --------------------------------------------------------------------------------------------
local function add_prefix(block)
  local number = block.identifier ~= "" and count(block.identifier)
  if not (number and FORMAT:match("html")) then return nil end
  local caption = block.caption
  local prefix = words[kind_of(block.identifier)] .. (language == "zh" and " " or "\u{a0}") .. number .. words.colon
  local first = caption.long[1]
  assert(first, block.identifier .. " has no caption")
  first.content:insert(1, pandoc.Strong({ pandoc.Str(prefix) }))
  block.caption = caption
  return block
end

local function number_header(header)
  if header.classes:includes("unnumbered") then return nil end
  for level = header.level + 1, 6 do sections[level] = 0 end
  sections[header.level] = (sections[header.level] or 0) + 1
  local parts = {}
  for level = 1, header.level do parts[level] = tostring(sections[level] or 0) end
  numbers[header.identifier] = table.concat(parts, ".")
  header.attributes.number = numbers[header.identifier] -- page.lua moves headings below the page's title
  return FORMAT:match("html") and header or nil
end

local function equation(math, label)
  local number = count(label)
  if FORMAT == "latex" then
    return raw("\\begin{equation}\\label{" .. label .. "}" .. math.text .. "\\end{equation}")
  elseif FORMAT == "typst" then
    local body = pandoc.write(pandoc.Pandoc({ pandoc.Para({ math }) }), "typst"):gsub("%s+$", "")
    return raw('#math.equation(block: true, numbering: "(1)", ' .. body .. ")<" .. label .. ">")
  end
  return pandoc.Span({ math, pandoc.Span({ pandoc.Str("(" .. number .. ")") }, { class = "number" }) },
    { id = label, class = "equation" })
end

-- Typst sets bars close to what stands between them only where it knows that they belong together.
local function bars(math)
  if FORMAT ~= "typst" then return nil end
  local function paired(text)
    return (text:gsub("\\lvert%f[%A]%s*(.-)\\rvert%f[%A]", function(inner)
      return "\\left\\vert " .. inner .. "\\right\\vert "
    end))
  end
  math.text = paired(math.text)
  return math
end

-- $$ … $$ {#eq:x}, with or without the space
local function equations(inlines)
  local out, i = pandoc.Inlines({}), 1
  while i <= #inlines do
    local here, after = inlines[i], i + 1
    if here.t == "Math" and here.mathtype == "DisplayMath" then
      while inlines[after] and (inlines[after].t == "Space" or inlines[after].t == "SoftBreak") do after = after + 1 end
      local label, rest = (inlines[after] and inlines[after].text or ""):match("^{#(eq:[%w_.:-]+)}(.*)$")
      if label then
        here = equation(here, label)
        i = after
        if rest ~= "" then inlines[after].text = rest; i = after - 1 end
      end
    end
    out:insert(here)
    i = i + 1
  end
  return out
end

-- References ------------------------------------------------------------------------------------------------------
local function reference_kind(inline)
  local kind = inline and inline.t == "Cite" and kind_of(inline.citations[1].id)
  return WORDS.en[kind or ""] and kind
end

-- Whether a text begins or ends with a Chinese character (punctuation too, or only that).
local function chinese(inline, last, only_punctuation)
  local text = inline and pandoc.utils.stringify(inline) or ""
  if text == "" then return false end
  local code = utf8.codepoint(text, last and utf8.offset(text, -1) or 1)
  local mark = (code >= 0x3000 and code <= 0x303F) or (code >= 0xFF01 and code <= 0xFF5E) or (code >= 0x2014 and code <= 0x2026)
  return mark or (not only_punctuation and code >= 0x4E00 and code <= 0x9FFF)
end

-- Chinese text needs no space around a reference, except after its number: 见表 1。 为第 6 节服务。 表 1 给出
local function close_up(inlines)
  if language ~= "zh" then return nil end
  local out = pandoc.Inlines({})
  for i, here in ipairs(inlines) do
    local before, after = inlines[i - 1], inlines[i + 1]
    local closed = here.t == "Space" or here.t == "SoftBreak"
    if closed and reference_kind(after) and after.citations[1].mode ~= "SuppressAuthor" then
      closed = chinese(before, true)
    elseif closed then
      local kind = reference_kind(before)
      closed = kind and chinese(after, false, kind ~= "sec")
    end
    if not closed then out:insert(here) end
  end
  return out
end

-- Chinese marks bring their own white space, so that none stands beside them, at the end of a line neither. Not in tables,
-- which may hold what models wrote.
local MARKS = {}
for _, code in utf8.codes("，。；：？！、（）《》") do MARKS[code] = true end

local function around_marks(inlines)
  if language ~= "zh" then return nil end
  local function mark(inline, last)
    local text = inline and inline.t ~= "Code" and inline.t ~= "Math" and pandoc.utils.stringify(inline) or ""
    return text ~= "" and MARKS[utf8.codepoint(text, last and utf8.offset(text, -1) or 1)]
  end
  local out = pandoc.Inlines({})
  for i, here in ipairs(inlines) do
    local space = here.t == "Space" or here.t == "SoftBreak"
    if not (space and (mark(inlines[i - 1], true) or mark(inlines[i + 1], false))) then out:insert(here) end
  end
  return out
end

local function reference(label, bare)
  local kind = kind_of(label)
  local before, tail = words[kind] .. "\u{a0}", ""
  if kind == "sec" and words.after_sec then tail = "\u{a0}" .. words.after_sec end
  if bare then before, tail = "", "" end
  if FORMAT == "latex" then
    local number = kind == "eq" and not bare and "(\\ref*{" .. label .. "})" or "\\ref*{" .. label .. "}"
    return raw("\\hyperref[" .. label .. "]{" .. before:gsub("\u{a0}", "~") .. number .. tail:gsub("\u{a0}", "~") .. "}")
  elseif FORMAT == "typst" then
    local number = "#ref(<" .. label .. ">, supplement: none)"
    if kind == "eq" and not bare then number = "(" .. number .. ")" end
    return raw(before:gsub("\u{a0}", "~") .. number .. tail:gsub("\u{a0}", "~"))
  end
  local number = assert(numbers[label], "unresolved cross-reference @" .. label)
  if kind == "eq" and not bare then number = "(" .. number .. ")" end
  return pandoc.Link({ pandoc.Str(before .. number .. tail) }, "#" .. label)
end

local function references(cite)
  if not WORDS.en[kind_of(cite.citations[1].id) or ""] then return nil end
  local out = pandoc.Inlines({})
  for i, citation in ipairs(cite.citations) do
    if i > 1 then out:insert(pandoc.Str(words.list)) end
    out:insert(reference(citation.id, citation.mode == "SuppressAuthor"))
  end
  return out
end

-- Characters ------------------------------------------------------------------------------------------------------
-- A minus sign before numbers. In LaTeX the text font has no Greek letters, which the maths font has; other characters
-- that are not usual, which `further-fonts` lists, take the first font that holds them (\fallback in header.tex). Those
-- of words stay together; wide ones, such as kana and emoji, may be parted.
local further = {}

local function read_further(meta)
  for _, code in utf8.codes(pandoc.utils.stringify(meta["further-fonts"] or "")) do further[code] = true end
end

local function fallback(run)
  return pandoc.RawInline("latex", "\\fallback{" .. run .. "}")
end

local function in_greek_word(code)
  return code and ((code >= 0x370 and code <= 0x3FF) or (code >= 0x1F00 and code <= 0x1FFF))
end

local function latex_characters(text)
  local out, plain, run, codes = pandoc.Inlines({}), "", "", {}
  for _, code in utf8.codes(text) do table.insert(codes, code) end
  local function flush()
    if plain ~= "" then out:insert(pandoc.Str(plain)) end
    if run ~= "" then out:insert(fallback(run)) end
    plain, run = "", ""
  end
  for i, code in ipairs(codes) do
    local char, wide = utf8.char(code), code >= 0x2E80
    local symbol = code >= 0x391 and code <= 0x3C9
      and not in_greek_word(codes[i - 1]) and not in_greek_word(codes[i + 1])
    if symbol then
      flush()
      out:insert(pandoc.Math("InlineMath", char))
    elseif further[code] and wide then
      flush()
      out:insert(pandoc.RawInline("latex", "\\fallbackwide{" .. char .. "}"))
    elseif further[code] then
      if plain ~= "" then flush() end
      if code ~= 0x200C and code ~= 0x200D then run = run .. char end
    else
      if run ~= "" then flush() end
      plain = plain .. char
    end
  end
  flush()
  return out
end

local function characters(str)
  local text = str.text:gsub("^%-(%.?%d)", "−%1"):gsub("([%[%(,])%-(%.?%d)", "%1−%2")
  -- the last are the zero-width space in front of a text of the run, and the space that keeps an interval on one line
  for _, mark in ipairs({ "（", "，", "、", "：", "；", "\u{200b}", "\u{a0}" }) do text = text:gsub(mark .. "%-(%.?%d)", mark .. "−%1") end
  if FORMAT ~= "latex" then return pandoc.Str(text) end
  return latex_characters(text)
end

-- Browsers draw the SVG that lies beside each PDF, or the PNG of a run that has none.
local function screen_image(image)
  if not FORMAT:match("html") then return nil end
  local place = image.src:gsub("%.pdf$", "")
  local svg = io.open(place .. ".svg")
  image.src = place .. (svg and ".svg" or ".png")
  if svg then svg:close() end
  return image
end

-- LaTeX does not break long names in typewriter type: allow it after their inner marks.
local function breakable_code(code)
  if FORMAT ~= "latex" then return nil end
  local text = pandoc.write(pandoc.Pandoc({ pandoc.Plain({ pandoc.Code(code.text) }) }), "latex")
  text = text:gsub("\\_", "\\_\\allowbreak{}"):gsub("([%./=,:])", "%1\\allowbreak{}")
  return raw((text:gsub("%s+$", ""):gsub("\\allowbreak{}}$", "}"))) -- no break at the end: a comma may follow
end

return {
  { Meta = function(meta) read_meta(meta); read_further(meta) end },
  { Div = figures_div, Math = bars },
  { traverse = "topdown", Figure = add_prefix, Table = add_prefix, Header = number_header, Inlines = equations },
  { Inlines = close_up },
  { traverse = "topdown", Inlines = around_marks, Table = function(tbl) return tbl, false end },
  { Cite = references },
  { Str = characters, Code = breakable_code, Image = screen_image },
}
