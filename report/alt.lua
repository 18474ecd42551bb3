-- What is to be seen in a figure, for those who cannot: each image gets its text of alt.yaml as alternative text, in the
-- page and in LaTeX. An image without an entry keeps its caption.

local language, texts

local function read_meta(meta)
  language = pandoc.utils.stringify(meta["report-language"] or "en")
  texts, meta.alt = meta.alt or {}, nil
  return meta
end

local function describe(image)
  local entry = texts[image.src:match("([%w_-]+)%.%a+$")]
  if entry then image.attributes.alt = pandoc.utils.stringify(entry[language]) end
  return image
end

return { { Meta = read_meta }, { Image = describe } }
