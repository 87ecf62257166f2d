const titleOf = ({ title }) => title || "Untitled";

/** One conversation in the list: its title, and what can be done with it. */
class ListRow {
  node = copyOf("row-template");
  #item;
  #actions;
  #link = this.node.querySelector("a");
  #form = this.node.querySelector("form");
  #input = this.node.querySelector("input");

  /** `actions`: opened(), rename(id, title), remove(item). */
  constructor(actions) {
    this.#actions = actions;
    this.#link.addEventListener("click", () => actions.opened());
    this.#link.addEventListener("keydown", ({ key }) => key === "F2" && this.#edit());
    this.#button("rename").addEventListener("click", () => this.#edit());
    this.#button("delete").addEventListener("click", () => actions.remove(this.#item));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#close(this.#input.value.trim());
    });
    this.#input.addEventListener("blur", () => this.#close(this.#input.value.trim()));
    onEscape(this.#input, () => this.#close(""));
  }

  update(item, current) {
    this.#item = item;
    const title = titleOf(item);
    setText(this.#link.querySelector("span"), title);
    this.#link.href = `#c=${item.id}`;
    this.#link.title = `${title}\n${new Date(item.updated_ms).toLocaleString()}`;
    if (current) this.#link.setAttribute("aria-current", "page");
    else this.#link.removeAttribute("aria-current");
    this.node.querySelector(".busy").hidden = !item.busy;
    this.#button("rename").setAttribute("aria-label", `Rename “${title}”`);
    this.#button("delete").setAttribute("aria-label", `Delete “${title}”`);
  }

  focus() {
    this.#link.focus();
  }

  #button(name) {
    return this.node.querySelector(`.${name}`);
  }

  #edit() {
    this.#link.hidden = true;
    this.#form.hidden = false;
    this.#input.value = this.#item.title;
    this.#input.focus();
    this.#input.select();
  }

  /** Leave the title as it is where `title` is empty. */
  #close(title) {
    if (this.#form.hidden) return;
    const focused = this.#form.contains(document.activeElement);
    this.#form.hidden = true;
    this.#link.hidden = false;
    if (focused) this.focus();
    if (title && title !== this.#item.title) this.#actions.rename(this.#item.id, title);
  }
}

/** Asks before a conversation is deleted. */
class DeleteDialog {
  #dialog = byId("delete");
  #agreed;

  constructor() {
    closeOnBackdrop(this.#dialog);
    byId("keep").addEventListener("click", () => this.#dialog.close());
    this.#dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#dialog.close();
      this.#agreed();
    });
  }

  ask(item, agreed) {
    this.#agreed = agreed;
    setText(byId("delete-what"), `“${titleOf(item)}” and its answers will be gone for good.`);
    this.#dialog.showModal();
  }
}

/** The list of conversations: beside the chat where there is room, else in a drawer. */
class ListView {
  #list;
  #store;
  #actions;
  #rows = new Map(); // conversation id → ListRow
  #wide = matchMedia("(min-width: 60rem)");
  #drawer = byId("list-drawer");
  #deleteDialog = new DeleteDialog();
  #sight = new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && this.#list.more());

  /** `actions`: create(); removed(id). */
  constructor(list, store, actions) {
    this.#list = list;
    this.#store = store;
    this.#actions = actions;
    byId("toggle-list").addEventListener("click", () => this.#toggle());
    byId("close-list").addEventListener("click", () => this.#drawer.close());
    byId("list-new").addEventListener("click", () => {
      this.#drawer.close();
      actions.create();
    });
    byId("more").addEventListener("click", () => list.more());
    closeOnBackdrop(this.#drawer);
    this.#drawer.addEventListener("close", () => this.#place());
    this.#wide.addEventListener("change", () => this.#place());
    this.#place();
  }

  /** Show the list as it is; `current` is the id of the conversation that is open. */
  update(current) {
    const { items, next, known, problem } = this.#list;
    const rows = new Map();
    for (const item of items) {
      const row = this.#rows.get(item.id) ?? this.#newRow();
      row.update(item, item.id === current);
      rows.set(item.id, row);
    }
    this.#rows = rows;
    arrange(byId("rows"), [...rows.values()].map((row) => row.node));
    byId("more").hidden = next === null;
    byId("list-empty").hidden = !known || items.length > 0;
    byId("list-problem").hidden = !problem;
    setText(byId("list-problem"), problem);
    this.#sight.disconnect(); // observing anew tells whether it is in sight
    this.#sight.observe(byId("more"));
  }

  #newRow() {
    return new ListRow({
      opened: () => this.#drawer.close(),
      rename: (id, title) => this.#list.rename(id, title),
      remove: (item) => this.#deleteDialog.ask(item, () => this.#remove(item)),
    });
  }

  async #remove({ id }) {
    const place = this.#list.items.findIndex((item) => item.id === id);
    if (!(await this.#list.remove(id))) return;
    this.#actions.removed(id);
    const next = this.#list.items[place] ?? this.#list.items.at(-1);
    if (next) this.#rows.get(next.id).focus(); // the focus was on what is gone
    else byId("list-new").focus();
  }

  #toggle() {
    if (this.#wide.matches) {
      this.#store.listHidden = !this.#store.listHidden;
      this.#store.saveSoon();
    } else {
      this.#drawer.showModal();
    }
    this.#place();
  }

  #place() {
    const wide = this.#wide.matches;
    if (wide && this.#drawer.open) this.#drawer.close();
    const side = byId("side");
    side.hidden = !wide || this.#store.listHidden;
    (wide ? side : this.#drawer).append(byId("conversations"));
    byId("toggle-list").setAttribute("aria-expanded", String(wide ? !side.hidden : this.#drawer.open));
  }
}
