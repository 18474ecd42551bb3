-- Drops the language that citeproc worked with: the references are English works, so citeproc writes them in English
-- ("and", not "和") in both reports. Typst and HTML get theirs as a template variable; in LaTeX ctex sets it up, and
-- babel, which pandoc would load, would undo that.

function Meta(meta)
  meta.lang = nil
  return meta
end
