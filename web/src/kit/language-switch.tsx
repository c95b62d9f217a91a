import { GlobalOutlined } from "@ant-design/icons";
import { switchLanguage, useText } from "@/i18n";

/** Names the other language in that language, as people look for it. */
export function LanguageSwitch() {
  const { language } = useText();
  const other = language === "en" ? "zh-CN" : "en";
  return (
    <button type="button" className="icon-button" lang={other} onClick={() => void switchLanguage(other)}>
      <span>
        <GlobalOutlined aria-hidden="true" /> <small>{other === "en" ? "English" : "中文"}</small>
      </span>
    </button>
  );
}
