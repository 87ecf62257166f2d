/** Keeps the end of the conversation in view, but only for a reader who is there. */
class Scroller {
  #area = byId("scroller");
  #button = byId("latest");
  #following = true;
  #top = 0;

  constructor() {
    this.#area.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    this.#button.addEventListener("click", () => {
      this.follow();
      this.#area.focus();
    });
    new ResizeObserver(() => this.update()).observe(this.#area);
  }

  /** Go to the end and stay there. */
  follow() {
    this.#following = true;
    this.update();
  }

  update() {
    const empty = byId("turns").hidden; // then the page is read from its top
    if (this.#following) this.#area.scrollTop = empty ? 0 : this.#area.scrollHeight;
    this.#button.hidden = this.#following || empty;
  }

  /** Bring a part into view, and stay there. */
  show(node) {
    this.#following = false;
    node.scrollIntoView({ block: "nearest" });
  }

  /** Leave the reader at the same words while something is put in above them. */
  keep(change) {
    const below_px = this.#area.scrollHeight - this.#area.scrollTop;
    change();
    this.#area.scrollTop = this.#area.scrollHeight - below_px;
  }

  #onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#area;
    const left_px = scrollHeight - scrollTop - clientHeight;
    // Growth moves the end away, shrinking moves up to the end: only a reader goes up and away from it.
    if (scrollTop < this.#top && left_px > 1) this.#following = false;
    else if (left_px < FOLLOW_PX) this.#following = true;
    this.#top = scrollTop;
    this.#button.hidden = this.#following || byId("turns").hidden;
  }
}
