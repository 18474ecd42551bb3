-- After citeproc. It drops the language that citeproc worked with: the references are English works, so citeproc writes
-- them in English ("and", not "和") in both reports. Typst and HTML get theirs as a template variable; in LaTeX ctex sets
-- it up, and babel, which pandoc would load, would undo that. And it sets citations in Chinese text in Chinese brackets.

local chinese

local function read_meta(meta)
  chinese = pandoc.utils.stringify(meta["report-language"] or "en") == "zh"
  meta.lang = nil
  return meta
end

local function in_brackets(inline)
  return inline and inline.t == "Cite" and inline.citations[1].mode ~= "AuthorInText"
end

-- （Ji et al. 2025）, without a space beside it
local function citations(inlines)
  if not chinese then return nil end
  local out = pandoc.Inlines({})
  for i, here in ipairs(inlines) do
    if in_brackets(here) then
      local first, last = here.content[1], here.content[#here.content]
      if first.t == "Str" then first.text = first.text:gsub("^%(", "（") end
      if last.t == "Str" then last.text = last.text:gsub("%)$", "）") end
    end
    local space = here.t == "Space" or here.t == "SoftBreak"
    if not (space and (in_brackets(inlines[i - 1]) or in_brackets(inlines[i + 1]))) then out:insert(here) end
  end
  return out
end

return { { Meta = read_meta }, { Inlines = citations } }
