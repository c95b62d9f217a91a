/**
 * The nonce of the page's content security policy, put into the page by the server that sends it.
 * Without one the placeholder stays, and the policy of that server must allow inline styles.
 */
const placed = document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content;

export const nonce = placed?.startsWith("__") ? undefined : placed;

// Some parts of the component library make style elements without asking for the nonce (the lock of
// scrolling behind dialogs does), so every style element that our own scripts make carries it.
if (nonce) {
  const createElement = document.createElement.bind(document);
  document.createElement = (tag: string, options?: ElementCreationOptions) => {
    const element = createElement(tag, options);
    if (element instanceof HTMLStyleElement) element.nonce = nonce;
    return element;
  };
}
