import { Modal, Switch } from "antd";
import { useState } from "react";
import { useText } from "@/i18n";
import { singleLetters } from "@/kit/keyboard";

const KEYS: [string, string][] = [
  ["Ctrl K", "search"],
  ["/", "search"],
  ["g h", "home"],
  ["g c", "customers"],
  ["g o", "opportunities"],
  ["g t", "tickets"],
  ["g a", "approvals"],
  ["g k", "tasks"],
  ["g l", "calendar"],
  ["g p", "phone"],
  ["n", "create"],
  ["j / k", "move"],
  ["Enter", "open"],
  ["x", "select"],
  ["f", "filter"],
  ["e", "edit"],
  ["F2", "cell"],
  ["Space", "peek"],
  ["Ctrl S", "save"],
  ["?", "list"],
];

export function Shortcuts({ onClose }: { onClose: () => void }) {
  const { t } = useText();
  const [on, setOn] = useState(singleLetters.on());
  return (
    <Modal open onCancel={onClose} footer={null} title={t("shortcuts.title")}>
      <table className="plain">
        <caption className="visually-hidden">{t("shortcuts.title")}</caption>
        <tbody>
          {KEYS.map(([keys, action]) => (
            <tr key={keys}>
              <th scope="row">
                <kbd>{keys}</kbd>
              </th>
              <td>{t(`shortcuts.${action}`)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p className="row">
        <Switch
          id="single-letters"
          checked={on}
          onChange={(next) => {
            singleLetters.set(next);
            setOn(next);
          }}
        />
        <label htmlFor="single-letters">{t("shortcuts.letters")}</label>
      </p>
    </Modal>
  );
}
