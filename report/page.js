// What the page adds where scripts run; without them everything is there to be read. Words come from <body data-...>.
"use strict";
(() => {
  const words = document.body.dataset;
  const details = document.querySelector(".bar details") ?? document.createElement("details"); // a short text has none
  const wide = matchMedia("(min-width: 72rem)"); // as in style.css: contents beside the text

  // Contents: open beside the text, closed above it, and closed again once something was chosen.
  const fit = () => { details.open = wide.matches; };
  wide.addEventListener("change", fit);
  fit();
  details.addEventListener("click", (event) => { if (!wide.matches && event.target.closest("a")) details.open = false; });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    hideCard();
    if (!wide.matches && details.open) { details.open = false; details.querySelector("summary").focus(); }
  });

  // Where one reads: marked in the contents; the other language opens there (the same names in both).
  const entries = new Map([...details.querySelectorAll("a")].map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
  const places = [...document.querySelectorAll("main [id]")].filter((place) => entries.has(place.id) || /^(sec|fig|tbl|eq|term):|^ref-/.test(place.id));
  const other = document.querySelector("a.language");
  const page = other.getAttribute("href");
  let marked = null;
  const locate = () => {
    const line = innerHeight / 4;
    const passed = scrollY ? places.filter((place) => place.getBoundingClientRect().top <= line) : [];
    const here = passed.at(-1);
    other.href = here ? page + "#" + here.id : page;
    const section = passed.findLast((place) => entries.has(place.id));
    if (marked) marked.removeAttribute("aria-current");
    marked = section ? entries.get(section.id) : null;
    if (marked) {
      marked.setAttribute("aria-current", "location");
      if (wide.matches) marked.scrollIntoView({ block: "nearest" });
    }
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; locate(); placeCard(); });
  }, { passive: true });

  // Boxes that scroll sideways can be reached with the Tab key, and only those.
  const boxes = document.querySelectorAll(".scroll, .formula, pre");
  const reach = () => boxes.forEach((box) => {
    const scrolls = box.scrollWidth > box.clientWidth;
    box.toggleAttribute("tabindex", scrolls);
    if (!scrolls) { box.removeAttribute("role"); box.removeAttribute("aria-label"); return; }
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", words.scrolls);
  });
  addEventListener("resize", () => { reach(); locate(); });

  // Points that are cases lie close: of those near a click the nearest is meant, as far off as a finger may be.
  document.querySelectorAll(".points:not(.bars)").forEach((points) => points.addEventListener("click", (event) => {
    const near = [...points.querySelectorAll("a")].map((link) => {
      const box = link.getBoundingClientRect();
      return [Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY), link.href.baseVal];
    }).sort((one, other) => one[0] - other[0])[0];
    if (!near || near[0] > 14) return;
    event.preventDefault();
    if (event.ctrlKey || event.metaKey || event.shiftKey) open(near[1], "_blank", "noopener");
    else location.assign(near[1]);
  }));

  // BibTeX: one button an entry, in the list and in the card.
  const copy = async (text, button) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // not allowed here: the old way
      const area = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: text }));
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.textContent = words.copied;
    setTimeout(() => { button.textContent = words.copy; }, 2000);
  };
  const copyButton = (source) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: words.copy });
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", () => copy(source.textContent.trim() + "\n", button));
    return button;
  };
  document.querySelectorAll(".csl-entry details").forEach((entry) => entry.append(copyButton(entry.querySelector("pre"))));

  // The card of a citation: the whole reference, while the pointer or the focus is on the link or on the card.
  const card = Object.assign(document.createElement("span"), { id: "card", className: "card", hidden: true });
  card.setAttribute("role", "group");
  card.setAttribute("aria-label", words.reference);
  card.lang = "en";
  let cited = null, timer = 0;
  const placeCard = () => {
    if (!cited) return;
    const link = cited.getClientRects()[0], margin = 8;
    card.style.left = Math.max(margin, Math.min(link.left, document.documentElement.clientWidth - card.offsetWidth - margin)) + "px";
    const above = link.bottom + card.offsetHeight + margin > innerHeight && link.top > card.offsetHeight + margin;
    card.style.top = (above ? link.top - card.offsetHeight - 4 : link.bottom + 4) + "px";
  };
  const hideCard = () => {
    clearTimeout(timer);
    if (cited) cited.removeAttribute("aria-describedby");
    cited = null;
    card.hidden = true;
  };
  const showCard = (link) => {
    clearTimeout(timer);
    const entry = document.getElementById(decodeURIComponent(link.hash.slice(1)));
    if (cited === link || !entry) return;
    hideCard();
    const said = document.createElement("span");
    said.append(...entry.cloneNode(true).childNodes);
    said.querySelector("details")?.remove();
    said.querySelectorAll("a").forEach((inner) => inner.replaceWith(...inner.childNodes));
    card.replaceChildren(said);
    const source = entry.querySelector("pre");
    if (source) card.append(copyButton(source));
    link.after(card); // so that Tab goes from the link to the button
    cited = link;
    card.hidden = false;
    link.setAttribute("aria-describedby", "card");
    placeCard();
  };
  const leave = () => { clearTimeout(timer); timer = setTimeout(() => { if (!card.contains(document.activeElement)) hideCard(); }, 250); };
  document.querySelectorAll('.citation a[href^="#ref-"]').forEach((link) => {
    link.addEventListener("mouseenter", () => showCard(link));
    link.addEventListener("focus", () => showCard(link));
    link.addEventListener("mouseleave", leave);
    link.addEventListener("blur", leave);
  });
  card.addEventListener("mouseenter", () => clearTimeout(timer));
  card.addEventListener("mouseleave", leave);
  card.addEventListener("focusout", leave);
  addEventListener("hashchange", hideCard);

  reach();
  locate();
})();
