-- Bars of histograms on the page on a screen: each leads to the cases that it counts on the page of replies beside this
-- one. Over the image for those who point; for the keyboard and for readers of the page the same links with their names,
-- in a part below the caption that opens. Runs after page.lua; what a bar counts, rlhf_hw/figures/case_bars.py says.

local WORDS = {
  en = { bars = "Bar by bar%s; a click on a bar does the same", range = "%s to %s", below = "below %s", above = "above %s", all = "all", colon = ": ", count = " (%d)",
    further = " (%d)", score = { a = "right order", b = "wrong order" },
    who = { base = "base", sft = "SFT", dpo = "DPO", reference = "reference (chosen)" } },
  zh = { bars = "逐柱查看案例%s；点击图中的柱亦可", range = "%s 至 %s", below = "低于 %s", above = "高于 %s", all = "全部", colon = "：", count = "（%d）",
    further = "（%d）", score = { a = "判对", b = "判错" },
    who = { base = "基座", sft = "SFT", dpo = "DPO", reference = "参考（chosen）" } },
}
local words, language, explorer

local function read_meta(meta)
  language = pandoc.utils.stringify(meta["report-language"] or "en")
  words = WORDS[language]
  explorer = meta.explorer and pandoc.utils.stringify(meta.explorer)
end

-- Whose scores a histogram counts, as figures and the page of replies call it.
local function sample(address)
  local winner, policy = address:match("&score=(%a)"), address:match("&a=(%a+)")
  if winner then return words.score[winner] end
  return policy and (words.who[policy] or policy) or (address:match("r%.a%.score=$") and "chosen" or "rejected")
end

local function range_of(low, high)
  low, high = low:gsub("%-", "−"), high:gsub("%-", "−")
  if low ~= "" and high ~= "" then return words.range:format(low, high) end
  return low ~= "" and words.above:format(low) or high ~= "" and words.below:format(high) or words.all
end

-- The bars of an image, as they are drawn one beside the other, and the drawing's size; nil where it has none.
local function bars_of(source)
  local file = explorer and source:match("%.svg$") and io.open((source:gsub("%.svg$", ".bars.json")))
  if not file then return nil end
  local found, bars = pandoc.json.decode(file:read("a"), false), pandoc.List({})
  file:close()
  for _, group in ipairs(found.groups) do
    local address = explorer .. "#lang=" .. language .. "&" .. group.address
    for n = 1, #group.points - 1, 2 do
      local left, top, key = table.unpack(group.points[n])
      local right, bottom = table.unpack(group.points[n + 1])
      local low, high, count = key:match("^(.-)%.%.(.-) (%d+)$")
      bars:insert({ link = (address .. low .. ".." .. high):gsub("&", "&amp;"), said = sample(group.address) .. words.colon .. range_of(low, high),
        count = count, x = left, y = top, width = right - left, height = bottom - top })
    end
  end
  return bars, found.size
end

-- Where bars lie over one another, the lower one lies on top, so that of each some part can be pointed at.
local function over_image(image)
  local bars, size = bars_of(image.src)
  if not bars then return nil end
  local parts = pandoc.List({ string.format('<svg class="points bars" viewBox="0 0 %s %s" aria-hidden="true">', table.unpack(size)) })
  bars:sort(function(one, other) return one.height > other.height end)
  for _, bar in ipairs(bars) do
    parts:insert(string.format('<a href="%s" tabindex="-1"><rect x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%s%s</title></rect></a>',
      bar.link, bar.x, bar.y, bar.width, bar.height, bar.said, words.count:format(bar.count)))
  end
  parts:insert("</svg>")
  return pandoc.Span({ image, pandoc.RawInline("html", table.concat(parts)) }, { class = "drawn" })
end

local function below_caption(figure)
  local number, caption = 0, figure.caption
  figure:walk({ Image = function(image)
    local bars = bars_of(image.src)
    if not bars then return nil end
    number = number + 1
    local parts = bars:map(function(bar)
      return string.format('<li><a href="%s">%s</a>%s</li>', bar.link, bar.said, words.count:format(bar.count))
    end)
    local name = words.bars:format(number > 1 and words.further:format(number) or "")
    caption.long:insert(pandoc.RawBlock("html", '<details class="cases"><summary>' .. name .. "</summary><ul>" .. table.concat(parts) .. "</ul></details>"))
  end })
  if number == 0 then return nil end
  figure.caption = caption
  return figure
end

return { { Meta = read_meta }, { Figure = below_caption }, { Image = over_image } }
