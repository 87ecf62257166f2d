/** Writes an answer's text into an element as it comes, with ``` fences as code blocks. */
class AnswerText {
  #root;
  #block = null; // the open block's text node; null: the next text opens one
  #fence = ""; // the backticks that opened the code block; "": not in one
  #line = ""; // the current line, as long as it may still become a fence
  #held = true;
  #newlines = 0;

  constructor(root) {
    this.#root = root;
  }

  write(text) {
    const [first, ...rest] = text.split("\n");
    this.#extendLine(first);
    for (const part of rest) {
      this.#endLine();
      this.#extendLine(part);
    }
  }

  /** No text follows. */
  end() {
    if (this.#held && !this.#isClosing()) this.#emit(this.#line);
    this.#line = "";
  }

  #extendLine(part) {
    if (!this.#held) return this.#emit(part);
    this.#line += part;
    if (/^[ \t]*(`{0,2}|`{3,}[^`]*)$/.test(this.#line)) return;
    this.#held = false;
    this.#emit(this.#line);
  }

  #endLine() {
    const opening = this.#held && !this.#fence && /^[ \t]*(`{3,})([^`]*)$/.exec(this.#line);
    if (opening) {
      this.#openCode(opening[1], opening[2].trim());
    } else if (this.#held && this.#isClosing()) {
      this.#close();
    } else {
      if (this.#held) this.#emit(this.#line);
      this.#newlines++;
    }
    this.#line = "";
    this.#held = true;
  }

  #isClosing() {
    return this.#fence !== "" && /^[ \t]*`+[ \t]*$/.test(this.#line) && this.#line.trim().length >= this.#fence.length;
  }

  /** Newlines wait for the text after them, so that no block ends in an empty line. */
  #emit(text) {
    if (!text) return;
    if (!this.#block) {
      if (!text.trim()) return;
      this.#newlines = 0;
      this.#block = new Text();
      this.#root.append(element("p", "", this.#block));
    }
    this.#block.appendData("\n".repeat(this.#newlines) + text);
    this.#newlines = 0;
  }

  #openCode(fence, language) {
    this.#fence = fence;
    this.#newlines = 0;
    this.#block = new Text();
    const code = element("pre", "", element("code", "", this.#block));
    code.tabIndex = 0; // long lines scroll, with the keyboard too
    const title = element("div", "", element("span", "", language), copyButton(() => code.textContent));
    this.#root.append(element("div", "code", title, code));
  }

  #close() {
    this.#fence = "";
    this.#block = null;
    this.#newlines = 0;
  }
}

function copyButton(textOf, button = element("button", "small", "Copy")) {
  button.type = "button";
  button.hidden = !navigator.clipboard; // there is none without a secure context
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(textOf());
    setText(button, "Copied");
    setTimeout(() => setText(button, "Copy"), 1500);
  });
  return button;
}
