/** Whether a rule of a role gives a permission; its star stands for any text, dots included. */
export const grants = (pattern: string, permission: string): boolean =>
  pattern === permission || new RegExp(`^${pattern.split("*").map(escape).join(".*")}$`).test(permission);

const escape = (text: string) => text.replace(/[.+?^${}()|[\]\\]/g, "\\$&");
