// In Airflow's frame the page follows Airflow's own light or dark, and a link to a run leaves the frame.
"use strict";
if (window.parent !== window) {
  try {
    const theirs = window.parent.document.documentElement;
    const follow = () => {
      const theme = ["dark", "light"].find((name) => theirs.classList.contains(name));
      if (theme) document.documentElement.dataset.theme = theme;
    };
    follow();
    new MutationObserver(follow).observe(theirs, { attributeFilter: ["class"] });
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-airflow]");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const outside = window.parent.document.createElement("a"); // the frame itself may not navigate its parent
      outside.href = link.href;
      outside.click();
    });
  } catch {
    // Framed by another origin: the page stays as it is.
  }
}
